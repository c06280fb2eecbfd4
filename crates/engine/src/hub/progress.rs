/// A file that is being downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download<'a> {
    /// Its name in the repository.
    pub file: &'a str,
    /// `OWNER/NAME`.
    pub repository: &'a str,
    /// Its size, where the hub says it.
    pub size_bytes: Option<u64>,
}

/// Is told of downloads while they run. `()` ignores them.
pub trait Progress {
    /// A download is about to start.
    fn begins(&self, download: Download<'_>);

    /// It has started, or started again, and so many bytes are missing.
    fn missing(&self, download: Download<'_>, n_bytes: u64);

    /// So many bytes more have arrived.
    fn received(&self, n_bytes: u64);

    /// All of it has arrived.
    fn ends(&self);
}

impl Progress for () {
    fn begins(&self, _: Download<'_>) {}
    fn missing(&self, _: Download<'_>, _: u64) {}
    fn received(&self, _: u64) {}
    fn ends(&self) {}
}
