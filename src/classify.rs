//! Classifiers that are joined, and classifiers in a box.
//!
//! # Several request classifiers
//!
//! A tuple of two to four classifiers is a classifier. [`Class::or`] merges their classes, and the
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
//! The type of a [`Builder`](crate::Builder) includes the classifiers, so the two branches of an
//! `if` that set different ones have different types (`E0308`). Boxed classifiers have one type,
//! which a struct field can name too:
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

use std::{fmt, sync::Arc};

use crate::{
    class::{Class, ClassifyRequest, ClassifyResponse, Opaque, Prepare},
    limit::Outcome,
};

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
