/// A file that is being downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download<'a> {
    /// Name in the repository.
    pub file: &'a str,
    /// `OWNER/NAME`.
    pub repository: &'a str,
    /// `None` if the hub does not report it.
    pub size_bytes: Option<u64>,
}

/// Receives the progress of downloads. `()` ignores it.
pub trait Progress {
    /// A download will start.
    fn starting(&self, download: Download<'_>);

    /// The download has started or resumed, and `n_bytes` remain.
    fn remaining(&self, download: Download<'_>, n_bytes: u64);

    /// Another `n_bytes` have arrived.
    fn received(&self, n_bytes: u64);

    /// The download is complete.
    fn finished(&self);
}

impl Progress for () {
    fn starting(&self, _: Download<'_>) {}
    fn remaining(&self, _: Download<'_>, _: u64) {}
    fn received(&self, _: u64) {}
    fn finished(&self) {}
}
