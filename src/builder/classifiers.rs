//! The classifiers of a builder. Each changes the type of the builder.

use super::Builder;
use crate::{class::Class, limit::Outcome, respond::Responder, unset::Unset};

impl<Q, R, H> Builder<Q, R, H> {
    /// Sets the request classifier to a closure. Write out the type of the closure's parameter:
    /// `|request: &Request<Body>| …`.
    ///
    /// Can be set once, as [`request_classifier`](Self::request_classifier) says. Default is
    /// [`Unclassified`](crate::Unclassified): all requests have the default class.
    pub fn classify_request<Req, F>(self, classify: F) -> Builder<F, R, H>
    where
        F: Fn(&Req) -> Class,
        Q: Unset,
    {
        self.request_classifier(classify)
    }

    /// Sets the request classifier to any [`ClassifyRequest`](crate::ClassifyRequest).
    ///
    /// Can be set once, since a second classifier would replace the first. To join several
    /// classifiers, write a tuple: `.request_classifier((tenant, deadline))`, as
    /// [`classify`](crate::classify) says. Default is [`Unclassified`](crate::Unclassified).
    pub fn request_classifier<C>(self, classifier: C) -> Builder<C, R, H>
    where
        Q: Unset,
    {
        let Self { config, requests: _, responder } = self;
        Builder { config, requests: classifier, responder }
    }

    /// Sets the response classifier to a closure. The classifier judges from each finished call how
    /// the inner is doing.
    ///
    /// Default is [`ByResult`](crate::ByResult): `Ok` is a success, and `Err` says nothing, except
    /// errors known to mean overload, such as a timeout further in.
    pub fn classify_response<T, E, F>(self, classify: F) -> Builder<Q, F, H>
    where
        F: Fn(Result<&T, &E>) -> Outcome,
    {
        self.response_classifier(classify)
    }

    /// Sets the response classifier to any [`ClassifyResponse`](crate::ClassifyResponse).
    ///
    /// Default is [`ByResult`](crate::ByResult).
    pub fn response_classifier<C>(self, classifier: C) -> Builder<Q, C, H> {
        let Self { config, requests, responder } = self;
        let completion = responder.completion;
        Builder { config, requests, responder: Responder { classifier, completion } }
    }
}
