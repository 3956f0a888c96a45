//! Who waits, in the order of arrival: a list in a slab, so that anybody can leave from anywhere in it.
//!
//! A place is taken with [`push_back`](Queue::push_back), and stays taken after the one who has it was
//! [popped](Queue::pop_front), until it is [given back](Queue::give_back): so what has become of somebody can be
//! left there to be read.

/// A place. Whoever has it gives it back, once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

/// The place of one that waits no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Popped(u32);

const NIL: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Queue<T> {
    places: Vec<Place<T>>,
    /// The first free place; each names the one after it in `next`.
    free: u32,
    front: u32,
    back: u32,
    len: usize,
}

#[derive(Debug)]
struct Place<T> {
    prev: u32,
    next: u32,
    waits: bool,
    value: Option<T>,
}

/// All are *O*(1), amortised.
impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: NIL, front: NIL, back: NIL, len: 0 }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back(&mut self, value: T) -> Ticket {
        let place = Place { prev: self.back, next: NIL, waits: true, value: Some(value) };
        let index = self.free;
        let index = if index == NIL {
            self.places.push(place);
            u32::try_from(self.places.len() - 1).expect("fewer wait than there is memory for")
        } else {
            let free = std::mem::replace(&mut self.places[index as usize], place);
            self.free = free.next;
            index
        };
        match self.back {
            NIL => self.front = index,
            back => self.places[back as usize].next = index,
        }
        self.back = index;
        self.len += 1;
        Ticket(index)
    }

    /// Who has waited for longest.
    pub(crate) fn front(&self) -> Option<&T> {
        self.places.get(self.front as usize)?.value.as_ref()
    }

    /// Lets who has waited for longest go.
    pub(crate) fn pop_front(&mut self) -> Option<Popped> {
        self.pop(self.front)
    }

    /// Lets who has come last go.
    pub(crate) fn pop_back(&mut self) -> Option<Popped> {
        self.pop(self.back)
    }

    fn pop(&mut self, index: u32) -> Option<Popped> {
        if index == NIL {
            return None;
        }
        self.unlink(index);
        Some(Popped(index))
    }

    /// What is left at the place of one that was popped just now.
    pub(crate) fn popped(&mut self, popped: Popped) -> &mut T {
        self.places[popped.0 as usize].value.as_mut().expect("nobody has given it back since")
    }

    fn unlink(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        if !std::mem::replace(&mut place.waits, false) {
            return;
        }
        let (prev, next) = (place.prev, place.next);
        match prev {
            NIL => self.front = next,
            prev => self.places[prev as usize].next = next,
        }
        match next {
            NIL => self.back = prev,
            next => self.places[next as usize].prev = prev,
        }
        self.len -= 1;
    }

    pub(crate) fn get_mut(&mut self, ticket: &Ticket) -> &mut T {
        self.places[ticket.0 as usize].value.as_mut().expect("a ticket's place is taken")
    }

    /// Leaves, whether or not it still waits.
    #[expect(clippy::needless_pass_by_value, reason = "it is given back")]
    pub(crate) fn give_back(&mut self, ticket: Ticket) -> T {
        self.unlink(ticket.0);
        let place = &mut self.places[ticket.0 as usize];
        let value = place.value.take().expect("a ticket's place is taken");
        place.next = self.free;
        self.free = ticket.0;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_agrees_with_a_deque(steps in prop::collection::vec((0..5, any::<prop::sample::Index>()), 0..200)) {
            let mut queue = Queue::new();
            let mut model = VecDeque::new();
            let mut tickets = Vec::new();
            for (number, (step, which)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        tickets.push((number, queue.push_back(number)));
                        model.push_back(number);
                    }
                    2 => {
                        let popped = queue.pop_front();
                        prop_assert_eq!(popped.map(|it| *queue.popped(it)), model.pop_front());
                    }
                    3 => {
                        let popped = queue.pop_back();
                        prop_assert_eq!(popped.map(|it| *queue.popped(it)), model.pop_back());
                    }
                    _ if tickets.is_empty() => {}
                    _ => {
                        let (value, ticket) = tickets.swap_remove(which.index(tickets.len()));
                        prop_assert_eq!(*queue.get_mut(&ticket), value);
                        prop_assert_eq!(queue.give_back(ticket), value);
                        model.retain(|other| *other != value);
                    }
                }
                prop_assert_eq!(queue.front(), model.front());
                prop_assert_eq!(queue.len(), model.len());
            }
            prop_assert!(queue.places.len() <= 200);
        }
    }
}
