//! Numbered places for sockets, so that an id of a socket that is gone never names its successor.
//!
//! Makes no system call and knows nothing of what a place holds.
//! Called by `epoll` and `uring`.

use crate::backend::SocketId;

/// Places of `T`, reused most recent first.
pub(crate) struct Slots<T> {
    places: Vec<Place<T>>,
    /// Places that hold nothing. Enter: `release`. Leave: `insert`.
    /// Why: last in, first out, because the place used most recently is still in the cache.
    free: Vec<u32>,
    /// Places released since the last round, and in the round before. Enter: `release`. Leave: `turn`.
    /// Why: an event about the socket that had the place may still be on its way to the caller, whose
    /// own notes are kept by place.
    cooling: [Vec<u32>; 2],
}

struct Place<T> {
    generation: u32,
    value: T,
}

/// An index must fit beside an operation's kind in a completion's mark.
const LARGEST: usize = 1 << 28;

impl<T: Default> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), cooling: Default::default() }
    }

    /// # Panics
    /// When 2^28 sockets are open; descriptors run out long before.
    pub(crate) fn insert(&mut self, value: T) -> SocketId {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.value = value;
            return SocketId { index, generation: place.generation };
        }
        assert!(self.places.len() < LARGEST, "more sockets than a back end can number");
        let index = self.places.len() as u32;
        self.places.push(Place { generation: 1, value });
        SocketId { index, generation: 1 }
    }

    /// The socket `id`, unless it was retired.
    #[inline]
    pub(crate) fn live(&mut self, id: SocketId) -> Option<&mut T> {
        let place = self.places.get_mut(id.index as usize)?;
        (place.generation == id.generation).then_some(&mut place.value)
    }

    #[inline]
    pub(crate) fn peek(&self, id: SocketId) -> Option<&T> {
        let place = self.places.get(id.index as usize)?;
        (place.generation == id.generation).then_some(&place.value)
    }

    /// Whatever is at `index` now, retired or not.
    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> &mut T {
        &mut self.places[index as usize].value
    }

    #[inline]
    pub(crate) fn id(&self, index: u32) -> SocketId {
        SocketId { index, generation: self.places[index as usize].generation }
    }

    /// Make every id handed out for `index` stale; the place stays taken.
    pub(crate) fn retire(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
    }

    /// Free the place for an `insert` two rounds later.
    pub(crate) fn release(&mut self, index: u32) -> T {
        self.cooling[0].push(index);
        std::mem::take(&mut self.places[index as usize].value)
    }

    /// A round of events begins: places released before the last one may be taken again.
    #[inline]
    pub(crate) fn turn(&mut self) {
        let [newer, older] = &mut self.cooling;
        if !(newer.is_empty() && older.is_empty()) {
            self.free.append(older);
            std::mem::swap(newer, older);
        }
    }

    pub(crate) fn taken(&self) -> usize {
        let cooling: usize = self.cooling.iter().map(Vec::len).sum();
        self.places.len() - self.free.len() - cooling
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.free.clear();
        self.cooling.iter_mut().for_each(Vec::clear);
        self.places.drain(..).map(|place| place.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_id_names_nobody_even_after_its_place_is_taken_again() {
        let mut slots = Slots::new();
        let first = slots.insert(7);
        slots.retire(first.index);
        assert!(slots.live(first).is_none());
        assert_eq!(slots.release(first.index), 7);
        // Events of this round and the next may still speak of it.
        slots.turn();
        assert_ne!(slots.insert(0).index, first.index);
        slots.turn();
        let second = slots.insert(8);
        assert_eq!(second.index, first.index);
        assert!(slots.live(first).is_none());
        assert_eq!(slots.live(second), Some(&mut 8));
        assert_eq!(slots.taken(), 2);
    }
}
