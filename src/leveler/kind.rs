/// The kind of a request, for prediction: an index in order of first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(u16);

impl Kind {
    /// The number of kinds with predictions of their own.
    pub(crate) const COUNT: usize = 256;

    /// The kind of a request whose class has none.
    pub(crate) const NONE: Self = Self(Self::COUNT as u16);

    /// A kind first seen after [`COUNT`](Self::COUNT) other kinds. Nothing is predicted for it.
    pub(crate) const BEYOND: Self = Self(Self::COUNT as u16 + 1);

    /// Returns the kind with this index.
    pub(crate) fn of(index: usize) -> Self {
        if index < Self::COUNT { Self(index as u16) } else { Self::BEYOND }
    }

    /// Returns the kind with these [`bits`](Self::bits).
    #[inline]
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Returns a number below 512.
    #[inline]
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// Returns the index of a kind, if below [`COUNT`](Self::COUNT).
    pub(crate) fn index(self) -> Option<usize> {
        let index = usize::from(self.0);
        (index < Self::COUNT).then_some(index)
    }
}
