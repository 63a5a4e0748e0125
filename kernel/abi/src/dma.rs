//! What devices reach of memory by themselves.

/// How many pages one `dma_map` maps at most.
pub const MAX_DMA_PAGES: usize = 128;

bitflags::bitflags! {
    /// How a device may use what is mapped for it. It can always read.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DmaFlags: u32 {
        /// It may write, too. Needs `WRITE` on the memory.
        const DEVICE_WRITES = 1 << 0;
    }
}
