//! Classifiers of requests and responses: joined in tuples, and boxed.
//!
//! # Several request classifiers
//!
//! A tuple of two to four classifiers is a classifier. [`Class::or`] merges the classes, and the
//! first takes precedence. Tuples can be nested.
//!
//! ```
//! use std::net::IpAddr;
//! use tower_load_leveling::{Class, LoadLevelLayer, Priority};
//!
//! struct Order { from: IpAddr, is_paid: bool }
//!
//! let flow = |order: &Order| Class::new().flow(order.from);
//! let priority = |order: &Order| match order.is_paid {
//!     true => Class::new().priority(Priority::High),
//!     false => Class::new(),
//! };
//! let layer = LoadLevelLayer::builder()
//!     .concurrency(64)
//!     .request_classifier((flow, priority))
//!     .build()?;
//! # drop(layer);
//! # Ok::<(), tower_load_leveling::error::BuildError>(())
//! ```
//!
//! # One type for several classifiers
//!
//! The type of a [`Builder`](crate::Builder) includes the classifiers. If the two branches of an
//! `if` set different classifiers, their types differ (`E0308`). Boxed classifiers have one type,
//! with a name for struct fields too:
//!
//! ```
//! use tower_load_leveling::{Class, ClassifyRequest, LoadLevelLayer, Unclassified};
//! use tower_load_leveling::classify::BoxClassifyRequest;
//!
//! struct Order { tenant: u64 }
//! struct App { layer: LoadLevelLayer<BoxClassifyRequest<Order>> }
//!
//! fn app(is_fair: bool) -> Result<App, Box<dyn std::error::Error>> {
//!     let builder = LoadLevelLayer::builder().concurrency(64);
//!     let builder = if is_fair {
//!         let flow = |order: &Order| Class::new().flow(order.tenant);
//!         builder.request_classifier(flow.boxed())
//!     } else {
//!         builder.request_classifier(Unclassified::new().boxed())
//!     };
//!     Ok(App { layer: builder.build()? })
//! }
//! # app(true).and_then(|_| app(false)).map(drop)
//! # .expect("both are valid");
//! ```

use std::{fmt, sync::Arc, time::Duration};

use crate::{class::Class, limit::Outcome};

/// Classifies requests.
///
/// Implemented for closures `Fn(&Req) -> Class`, and for [tuples](crate::classify) of classifiers.
/// A classifier runs in `call`, on the caller's thread, before the request is admitted. A panic in
/// a classifier reaches the caller and changes nothing for others.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not classify requests of the type `{Req}`",
    label = "not a request classifier for `{Req}`",
    note = "a closure is one if the type of its parameter is written out, as a reference: \
            `.classify_request(|request: &{Req}| Class::new())`",
    note = "several classifiers are joined in a tuple: `.request_classifier((first, second))`"
)]
pub trait ClassifyRequest<Req> {
    /// Returns the class of `request`.
    fn classify(&self, request: &Req) -> Class;

    /// Returns a function for preparing a request just before dispatch, given the wait. Internal to
    /// this crate.
    #[doc(hidden)]
    fn prepare(&self) -> Option<Prepare<Req>> {
        None
    }

    /// Puts this classifier into a box, to give different classifiers the same type.
    ///
    /// If a classifier of your own implements this trait for several request types, name the type:
    /// `BoxClassifyRequest::<Request<Body>>::new(mine)`. For the classifiers of this crate, the
    /// type is inferred. See [`classify`](crate::classify) for an example.
    fn boxed(self) -> BoxClassifyRequest<Req>
    where
        Self: Sized + Send + Sync + 'static,
    {
        BoxClassifyRequest::new(self)
    }
}

/// The function from [`ClassifyRequest::prepare`]. The arguments are the request and its wait.
pub(crate) type Prepare<Req> = fn(&mut Req, Duration);

#[diagnostic::do_not_recommend]
impl<F, Req> ClassifyRequest<Req> for F
where
    F: Fn(&Req) -> Class,
{
    fn classify(&self, request: &Req) -> Class {
        self(request)
    }
}

/// The default [`ClassifyRequest`]: every request has the default class.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Unclassified;

impl Unclassified {
    /// Returns the classifier.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<Req> ClassifyRequest<Req> for Unclassified {
    fn classify(&self, _request: &Req) -> Class {
        Class::new()
    }
}

/// Judges from a finished call how the inner service is doing.
///
/// Implemented for closures `Fn(Result<&T, &E>) -> Outcome`. A classifier runs in place of the
/// call, as the call ends. A panic in a classifier reaches the caller of the call alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not judge responses of the type `{T}` with errors of the type `{E}`",
    label = "not a response classifier for `{T}` and `{E}`",
    note = "a closure is one if the types of its parameter are written out: \
            `.classify_response(|result: Result<&{T}, &{E}>| Outcome::Success)`",
    note = "the default judges all responses: `.response_classifier(ByResult::new())`"
)]
pub trait ClassifyResponse<T, E> {
    /// Returns the outcome of a call with this `result`.
    fn classify(&self, result: Result<&T, &E>) -> Outcome;

    /// Returns the outcome told by the response's trailers, as a replacement. Internal to this
    /// crate.
    #[cfg(feature = "http")]
    #[doc(hidden)]
    fn classify_trailers(&self, _trailers: &http::HeaderMap) -> Option<Outcome> {
        None
    }

    /// Puts this classifier into a box, to give different classifiers the same type.
    ///
    /// If a classifier of your own implements this trait for several types, name the types:
    /// `BoxClassifyResponse::<Response<Body>, BoxError>::new(mine)`. See
    /// [`classify`](crate::classify) for an example with requests.
    fn boxed(self) -> BoxClassifyResponse<T, E>
    where
        Self: Sized + Send + Sync + 'static,
    {
        BoxClassifyResponse::new(self)
    }
}

#[diagnostic::do_not_recommend]
impl<F, T, E> ClassifyResponse<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Outcome,
{
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self(result)
    }
}

/// Prints a classifier as the word `classifier`, since closures have no `Debug`.
pub(crate) struct Opaque;

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("classifier")
    }
}

/// A request classifier of any type, made by [`ClassifyRequest::boxed`].
///
/// A clone shares the classifier.
pub struct BoxClassifyRequest<Req>(Arc<dyn ClassifyRequest<Req> + Send + Sync>);

impl<Req> BoxClassifyRequest<Req> {
    /// Boxes `classifier`.
    #[must_use]
    pub fn new(classifier: impl ClassifyRequest<Req> + Send + Sync + 'static) -> Self {
        Self(Arc::new(classifier))
    }
}

impl<Req> ClassifyRequest<Req> for BoxClassifyRequest<Req> {
    fn classify(&self, request: &Req) -> Class {
        self.0.classify(request)
    }

    fn prepare(&self) -> Option<Prepare<Req>> {
        self.0.prepare()
    }
}

impl<Req> Clone for BoxClassifyRequest<Req> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Req> fmt::Debug for BoxClassifyRequest<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxClassifyRequest").field(&Opaque).finish()
    }
}

/// A response classifier of any type, made by [`ClassifyResponse::boxed`].
///
/// A clone shares the classifier.
pub struct BoxClassifyResponse<T, E>(Arc<dyn ClassifyResponse<T, E> + Send + Sync>);

impl<T, E> BoxClassifyResponse<T, E> {
    /// Boxes `classifier`.
    #[must_use]
    pub fn new(classifier: impl ClassifyResponse<T, E> + Send + Sync + 'static) -> Self {
        Self(Arc::new(classifier))
    }
}

impl<T, E> ClassifyResponse<T, E> for BoxClassifyResponse<T, E> {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self.0.classify(result)
    }

    #[cfg(feature = "http")]
    fn classify_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome> {
        self.0.classify_trailers(trailers)
    }
}

impl<T, E> Clone for BoxClassifyResponse<T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, E> fmt::Debug for BoxClassifyResponse<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxClassifyResponse").field(&Opaque).finish()
    }
}

/// Implements [`ClassifyRequest`] for a tuple of classifiers, given a name for each.
macro_rules! tuple {
    ($first:ident $($more:ident)+) => {
        /// Merges the classes by [`Class::or`]. The first classifier takes precedence.
        impl<Req, $first, $($more),+> ClassifyRequest<Req> for ($first, $($more),+)
        where
            $first: ClassifyRequest<Req>,
            $($more: ClassifyRequest<Req>,)+
        {
            #[allow(non_snake_case, reason = "the names of the types serve for the values")]
            fn classify(&self, request: &Req) -> Class {
                let ($first, $($more),+) = self;
                $first.classify(request)$(.or($more.classify(request)))+
            }

            /// At most one of the classifiers has anything to prepare.
            #[allow(non_snake_case, reason = "the names of the types serve for the values")]
            fn prepare(&self) -> Option<Prepare<Req>> {
                let ($first, $($more),+) = self;
                $first.prepare()$(.or_else(|| $more.prepare()))+
            }
        }
    };
}

tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
