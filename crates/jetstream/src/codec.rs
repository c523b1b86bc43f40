use bytes::Bytes;
use tower::BoxError;

use crate::Delivery;

/// The form of a request on the wire.
///
/// Implemented by [`Raw`] for bytes, and by `Json` with the feature `json`.
pub trait Codec<Req>: Send + Sync + 'static {
    /// Encodes a request, to be stored.
    ///
    /// # Errors
    ///
    /// If the request has no encoding. The producer returns
    /// [`Error::Encode`](crate::Error::Encode).
    fn encode(&self, request: &Req) -> Result<Bytes, BoxError>;

    /// Decodes a delivery.
    ///
    /// # Errors
    ///
    /// If the bytes are no request. The worker buries the message without a call.
    fn decode(&self, delivery: &Delivery) -> Result<Req, BoxError>;
}

/// Requests in bytes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Raw;

impl Raw {
    /// Makes the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Codec<Bytes> for Raw {
    fn encode(&self, request: &Bytes) -> Result<Bytes, BoxError> {
        Ok(request.clone())
    }

    fn decode(&self, delivery: &Delivery) -> Result<Bytes, BoxError> {
        Ok(delivery.payload().clone())
    }
}

/// The [`Delivery`] itself, for services in need of the id, the attempt or the headers.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AsDelivered;

impl AsDelivered {
    /// Makes the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Encodes the payload alone.
impl Codec<Delivery> for AsDelivered {
    fn encode(&self, request: &Delivery) -> Result<Bytes, BoxError> {
        Ok(request.payload().clone())
    }

    fn decode(&self, delivery: &Delivery) -> Result<Delivery, BoxError> {
        Ok(delivery.clone())
    }
}

/// Requests as JSON.
#[cfg(feature = "json")]
#[derive(Debug)]
pub struct Json<T> {
    request: std::marker::PhantomData<fn() -> T>,
}

#[cfg(feature = "json")]
impl<T> Json<T> {
    /// Makes the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self { request: std::marker::PhantomData }
    }
}

#[cfg(feature = "json")]
impl<T> Default for Json<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "json")]
impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Codec<T> for Json<T> {
    fn encode(&self, request: &T) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(request)?.into())
    }

    fn decode(&self, delivery: &Delivery) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(delivery.payload())?)
    }
}
