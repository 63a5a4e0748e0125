//! Writing blocks to their places.

use crate::device::{Device, DeviceFailed, SECTOR_BYTES};
use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::vec::Vec;
use futures_util::{StreamExt, TryStreamExt, future, stream};

/// Most blocks written at once.
const RUN_BLOCKS: usize = 64;
/// Most writes under way.
const WRITES: usize = 8;

/// Blocks by their numbers, with what they hold.
pub(crate) type Copies = Vec<(u64, Rc<[u8]>)>;

/// Writes blocks, which are in the order of their numbers: neighbours together, and several requests at once.
pub(crate) async fn write_home<D: Device>(device: &D, blocks: &[(u64, Rc<[u8]>)]) -> Result<(), DeviceFailed> {
    let runs = blocks.chunk_by(|(a, _), (b, _)| a + 1 == *b).flat_map(|run| run.chunks(RUN_BLOCKS));
    stream::iter(runs.filter_map(|run| run.split_first()))
        .map(|((number, first), rest)| async move {
            let bytes = joined(first, rest);
            device.write(number * (first.len() / SECTOR_BYTES) as u64, &bytes).await
        })
        .buffer_unordered(WRITES)
        .try_for_each(|()| future::ready(Ok(())))
        .await
}

fn joined<'a>(first: &'a [u8], rest: &[(u64, Rc<[u8]>)]) -> Cow<'a, [u8]> {
    if rest.is_empty() {
        return Cow::Borrowed(first);
    }
    let mut bytes = Vec::with_capacity(first.len() * (1 + rest.len()));
    bytes.extend_from_slice(first);
    rest.iter().for_each(|(_, block)| bytes.extend_from_slice(block));
    Cow::Owned(bytes)
}
