use std::{fmt, sync::Arc};

use tower::Layer;

use crate::{
    by_result::ByResult,
    classify::{Opaque, Unclassified},
    handle::Handle,
    leveler::{
        call::inner::Inner,
        front::{Front, Leveler},
    },
    respond::{CompleteOnResponse, Responder},
    service::LoadLevel,
};

/// Puts a bounded queue in front of services. The queue, the limit and the drain task belong to
/// **this value**: all services made by the layer share them, and so do all clones of the layer.
///
/// One limit therefore holds over all routes, connections and clones, however often `layer` is
/// called. For two backends make two layers; [`fresh`](Self::fresh) makes an independent layer with
/// the same settings.
///
/// Neither making a layer nor calling `layer()` needs a runtime: the first call spawns the drain
/// task.
///
/// See the [crate docs](crate) for an example.
///
/// # Naming the type
///
/// The type includes the classifiers. A function can take a layer as
/// `LoadLevelLayer<impl ClassifyRequest<Request<Body>> + Send + Sync + 'static>`. A struct field
/// can name the type if the classifier is [boxed](crate::ClassifyRequest::boxed):
/// `LoadLevelLayer<BoxClassifyRequest<Request<Body>>>`; or if it is a plain function:
/// `LoadLevelLayer<fn(&Request<Body>) -> Class>`, made by
/// `.classify_request(classify as fn(&Request<Body>) -> Class)`.
pub struct LoadLevelLayer<Q = Unclassified, R = ByResult, H = CompleteOnResponse> {
    front: Arc<Front<Q>>,
    responder: Arc<Responder<R, H>>,
}

impl<Q, R, H> LoadLevelLayer<Q, R, H> {
    pub(crate) fn from_parts(
        leveler: Leveler,
        request_classifier: Arc<Q>,
        responder: Arc<Responder<R, H>>,
    ) -> Self {
        let front = Front { leveler: Arc::new(leveler), request_classifier };
        Self { front: Arc::new(front), responder }
    }

    /// Returns a handle to observe and control the leveler.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.front.leveler))
    }

    /// Makes an independent leveler with the settings originally given to the builder.
    ///
    /// If the limit is adaptive, the new leveler keeps the present limit for good, since an
    /// algorithm cannot be copied.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let core = &self.front.leveler.core;
        let mut settings = core.settings.clone();
        if core.limiter.is_adaptive() {
            settings.limit = core.admission.exact_limit();
        }
        settings.adaptive = None;
        Self::from_parts(
            Leveler::new(settings, None),
            Arc::clone(&self.front.request_classifier),
            Arc::clone(&self.responder),
        )
    }
}

impl<S, Q, R, H> Layer<S> for LoadLevelLayer<Q, R, H> {
    type Service = LoadLevel<S, Q, R, H>;

    fn layer(&self, inner: S) -> Self::Service {
        let core = Arc::clone(&self.front.leveler.core);
        let inner = Inner::new(core, Arc::clone(&self.responder), inner);
        LoadLevel::new(inner, Arc::clone(&self.front))
    }
}

/// A clone shares the leveler.
impl<Q, R, H> Clone for LoadLevelLayer<Q, R, H> {
    fn clone(&self) -> Self {
        let Self { front, responder } = self;
        Self { front: Arc::clone(front), responder: Arc::clone(responder) }
    }
}

impl<Q, R, H> fmt::Debug for LoadLevelLayer<Q, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { front, responder: _ } = self;
        f.debug_struct("LoadLevelLayer")
            .field("leveler", &front.leveler.core)
            .field("request_classifier", &Opaque)
            .field("response_classifier", &Opaque)
            .finish()
    }
}
