//! How urgent a job is.

/// How urgent a job is; workers look at lanes in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Somebody sits in front of it.
    Interactive,
    /// Within the tenant's fair share.
    Normal,
    /// Beyond the tenant's fair share.
    Bulk,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Normal, Self::Bulk];

    /// The lane's token in names and subjects.
    pub fn token(self) -> &'static str {
        match self {
            Self::Interactive => "u",
            Self::Normal => "n",
            Self::Bulk => "b",
        }
    }
}
