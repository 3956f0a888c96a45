//! Where nodes live: chunks that are added and never taken away while their Timekeeper exists.

use std::ptr::NonNull;

use super::node::Node;
use super::shard::Shard;
use crate::sync::{Mutex, lock};

/// Nodes in a chunk: 16 KiB of them.
#[cfg(not(any(deadbeat_loom, deadbeat_shuttle)))]
pub(super) const CHUNK: u32 = 256;
#[cfg(any(deadbeat_loom, deadbeat_shuttle))]
pub(super) const CHUNK: u32 = 4;

/// All chunks of a Timekeeper, in the order of their nodes' indices.
#[derive(Debug)]
pub(super) struct Pool {
    chunks: Mutex<Vec<Chunk>>,
}

#[derive(Debug)]
struct Chunk {
    nodes: Box<[Node]>,
    /// Whose free lists its nodes go back to; outlives the pool (the core holds both).
    home: NonNull<Shard>,
}

// SAFETY: `home` is only handed out, and points to a `Sync` shard.
unsafe impl Send for Chunk {}

/// Where a chunk is, for those who have looked it up.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkRef {
    pub(super) nodes: NonNull<Node>,
    pub(super) home: NonNull<Shard>,
}

// SAFETY: both point to `Sync` data.
unsafe impl Send for ChunkRef {}

impl Pool {
    pub(super) fn new() -> Self {
        Self { chunks: Mutex::new(Vec::new()) }
    }

    /// Adds a chunk whose nodes belong to `home`.
    ///
    /// # Panics
    ///
    /// At 2^32 nodes (256 GiB of them).
    #[cold]
    pub(super) fn grow(&self, home: &Shard) -> NonNull<Node> {
        let mut chunks = lock(&self.chunks);
        let first = u32::try_from(chunks.len())
            .ok()
            .and_then(|n| n.checked_mul(CHUNK))
            .filter(|first| *first <= u32::MAX - 2 * CHUNK)
            .expect("fewer than 2^32 timers live at once");
        let nodes: Box<[Node]> = (first..first + CHUNK).map(Node::new).collect();
        let start = NonNull::from(&nodes[0]);
        chunks.push(Chunk { nodes, home: NonNull::from(home) });
        start
    }

    /// Adds what `known` lacks.
    #[cold]
    pub(super) fn refresh(&self, known: &mut Vec<ChunkRef>) {
        let chunks = lock(&self.chunks);
        known.extend(
            chunks[known.len()..]
                .iter()
                .map(|chunk| ChunkRef { nodes: NonNull::from(&chunk.nodes[0]), home: chunk.home }),
        );
    }

    /// How many nodes there are.
    pub(super) fn capacity(&self) -> u64 {
        lock(&self.chunks).len() as u64 * u64::from(CHUNK)
    }

    /// Looks at every node. *O*(capacity).
    pub(super) fn each(&self, f: impl FnMut(&Node)) {
        lock(&self.chunks).iter().flat_map(|chunk| &chunk.nodes).for_each(f);
    }

    /// Looks for a node, from index `at` on and round; leaves in `at` where it is. *O*(capacity).
    pub(super) fn find(&self, at: &mut usize, mut found: impl FnMut(&Node) -> bool) -> bool {
        let chunks = lock(&self.chunks);
        let node = |i: usize| &chunks[i / CHUNK as usize].nodes[i % CHUNK as usize];
        let capacity = chunks.len() * CHUNK as usize;
        match (*at..capacity).chain(0..capacity.min(*at)).find(|&i| found(node(i))) {
            Some(i) => {
                *at = i;
                true
            }
            None => false,
        }
    }
}
