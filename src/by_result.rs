use std::any::Any;

use tower::{load_shed, timeout};

use crate::{
    classify::ClassifyResponse,
    error::{BoxError, Rejected, sources},
    limit::Outcome,
};

/// The default [`ClassifyResponse`]: `Ok` is a [`Success`](Outcome::Success), an error known to
/// mean overload is [`Overload`](Outcome::Overload), and any other error is
/// [ignored](Outcome::Ignore). Most errors (not found, not allowed) say nothing about load.
///
/// Errors known to mean overload are those of `tower::timeout`, `tokio::time::timeout` and
/// `tower::load_shed`, and a [`Rejected`] from a leveler further in, except
/// [`Closed`](crate::error::Reason::Closed), [`NoRuntime`](crate::error::Reason::NoRuntime) and
/// [`Nested`](crate::error::Reason::Nested). The classifier finds such an error as the error
/// itself, in a [`BoxError`], and among the sources of a [`BoxError`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByResult;

impl ByResult {
    /// Returns the classifier.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<T, E: 'static> ClassifyResponse<T, E> for ByResult {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) if means_overload(error) => Outcome::Overload,
            Err(_) => Outcome::Ignore,
        }
    }
}

/// Returns whether an error is known to mean overload. A macro: `Any` and `Error` have the same
/// methods, and no common trait.
macro_rules! is_known {
    ($error:expr) => {
        $error.is::<timeout::error::Elapsed>()
            || $error.is::<tokio::time::error::Elapsed>()
            || $error.is::<load_shed::error::Overloaded>()
            || $error.downcast_ref().is_some_and(is_refused)
    };
}

/// Returns whether an error means overload. Takes an error of any type, or a box of an error, since
/// the error type of an inner need not implement `Error`.
fn means_overload(error: &dyn Any) -> bool {
    let Some(boxed) = error.downcast_ref::<BoxError>() else { return is_known!(error) };
    sources(&**boxed).any(|error| is_known!(error))
}

fn is_refused(rejected: &Rejected) -> bool {
    rejected.reason().is_of_load()
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fmt, io};

    use super::*;
    use crate::error::Reason;

    fn of<E: 'static>(error: E) -> Outcome {
        ByResult.classify(Err::<&(), _>(&error))
    }

    /// An error around another error.
    #[derive(Debug)]
    struct Because(BoxError);

    impl fmt::Display for Because {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it failed")
        }
    }

    impl Error for Because {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn errors_that_are_known_to_mean_overload_do_wherever_they_are() {
        fn assert_overload<E: Error + Send + Sync + Clone + 'static>(error: E) {
            assert_eq!(of(error.clone()), Outcome::Overload, "{error:?}");
            assert_eq!(of::<BoxError>(error.clone().into()), Outcome::Overload, "boxed {error:?}");
            let deep = Because(Because(error.clone().into()).into());
            assert_eq!(of::<BoxError>(deep.into()), Outcome::Overload, "source {error:?}");
        }
        assert_overload(Rejected::new(Reason::Full));
        assert_overload(Rejected::new(Reason::MaxWait));
        assert_eq!(of(timeout::error::Elapsed::new()), Outcome::Overload);
        assert_eq!(of(load_shed::error::Overloaded::new()), Outcome::Overload);
        for error in [
            timeout::error::Elapsed::new().into(),
            load_shed::error::Overloaded::new().into(),
            Because(timeout::error::Elapsed::new().into()).into(),
            Because(load_shed::error::Overloaded::new().into()).into(),
        ] as [BoxError; 4]
        {
            let printed = format!("{error:?}");
            assert_eq!(of(error), Outcome::Overload, "{printed}");
        }
    }

    #[test]
    fn other_errors_say_nothing() {
        assert_eq!(of(io::Error::other("lost")), Outcome::Ignore);
        assert_eq!(of::<BoxError>("lost".into()), Outcome::Ignore);
        assert_eq!(of::<BoxError>(Because("lost".into()).into()), Outcome::Ignore);
        assert_eq!(of(Rejected::new(Reason::Closed)), Outcome::Ignore, "it shuts down");
        assert_eq!(of(()), Outcome::Ignore, "an error need not be an `Error`");
        assert_eq!(ByResult.classify(Ok::<_, &BoxError>(&())), Outcome::Success);
    }

    #[test]
    fn an_error_that_is_its_own_source_comes_to_an_end() {
        #[derive(Debug)]
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("endless")
            }
        }
        impl Error for Endless {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        assert_eq!(of::<BoxError>(Endless.into()), Outcome::Ignore);
    }
}
