//! Streams from an async block that sends items.

use std::future::{Future, ready};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

/// Where an async block sends the items of its stream.
#[derive(Debug)]
pub(crate) struct Items<T>(mpsc::Sender<T>);

impl<T> Items<T> {
    /// Waits until the reader of the stream takes the item before this one.
    pub(crate) async fn send(&self, item: T) {
        // The stream has both ends, so the receiver exists while this runs.
        _ = self.0.send(item).await;
    }
}

/// The stream of the items that `produce` sends. `produce` runs only while the stream is polled, and is dropped with it.
pub(crate) fn produced<T, P, F>(produce: P) -> impl Stream<Item = T> + use<T, P, F>
where
    P: FnOnce(Items<T>) -> F,
    F: Future<Output = ()>,
{
    let (sender, mut receiver) = mpsc::channel(1);
    let producer = produce(Items(sender));
    stream::select(
        stream::poll_fn(move |context| receiver.poll_recv(context)),
        stream::once(producer).filter_map(|()| ready(None)),
    )
}
