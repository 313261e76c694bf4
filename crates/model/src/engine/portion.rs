//! How much is computed at a time: what fits by the shapes of the model, and half of it where the
//! device's memory is not enough all the same.

use crate::device::{Fault, guard};
use crate::error::{Error, Result};
use crate::parallel::Workers;

/// How much is computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Records, rows or pictures of each worker.
    pub size: usize,
    /// Who computes it.
    pub workers: Workers,
}

impl Portion {
    /// What of this fits into `room` bytes, where each `what` takes `each`. As many of them as one
    /// worker has room for, so that the number of workers changes no result; then as many workers as
    /// have room beside each other.
    ///
    /// # Errors
    /// [`Error::NoRoomFor`] when there is not room for one.
    pub fn within(self, room: u64, each: u64, what: &'static str) -> Result<Self> {
        let fit = |bytes: u64, most: usize| {
            usize::try_from(room / bytes.max(1)).map_or(most, |fit| fit.min(most))
        };
        let size = fit(each, self.size);
        if size == 0 {
            return Err(Error::NoRoomFor { what, each, room });
        }
        Ok(Self {
            size,
            workers: self
                .workers
                .at_most(fit(each.saturating_mul(size as u64), self.workers.count())),
        })
    }
}

/// What `work` makes of `all`, in their order: of all at once, or where the device runs out of
/// memory of each half, and so on; `say` is told how many are tried next.
///
/// # Errors
/// The error of `work`; a device that has not even room for one, or that is lost.
pub fn retry_in_halves<R, T, E: From<Fault>>(
    all: &[R],
    say: &(dyn Fn(usize) + Sync),
    work: &dyn Fn(&[R]) -> std::result::Result<T, E>,
) -> std::result::Result<Vec<T>, E> {
    match guard(|| work(all)) {
        Ok(made) => Ok(vec![made?]),
        Err(Fault::OutOfMemory) if all.len() > 1 => {
            let half = all.len().div_ceil(2);
            say(half);
            let (first, second) = all.split_at(half);
            let mut made = retry_in_halves(first, say, work)?;
            made.extend(retry_in_halves(second, say, work)?);
            Ok(made)
        }
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::sync::Mutex;

    use super::*;

    /// Room for so many numbers at a time.
    fn sums(room: usize, all: &[u32]) -> (Result<Vec<Vec<u32>>>, Vec<usize>) {
        let said = Mutex::new(Vec::new());
        let say = |n| said.lock().expect("alone").push(n);
        let work = |some: &[u32]| {
            if some.len() <= room {
                Ok(some.to_vec())
            } else {
                resume_unwind(Box::new(Fault::OutOfMemory))
            }
        };
        let made = retry_in_halves(all, &say, &work);
        (made, said.into_inner().expect("alone"))
    }

    #[test]
    fn as_many_are_computed_at_once_as_there_is_room_for() {
        let most = Portion {
            size: 16,
            workers: Workers::Threads(4),
        };
        let found = |room, each| {
            most.within(room, each, "record")
                .map(|p| (p.size, p.workers.count()))
        };
        assert_eq!(found(1000, 100).expect("room"), (10, 1));
        assert_eq!(found(1000, 20).expect("room"), (16, 3));
        assert_eq!(found(u64::MAX, 0).expect("room"), (16, 4));
        let refused = found(99, 100).expect_err("no room").to_string();
        assert!(
            refused.contains("one record takes about 100 B"),
            "{refused}"
        );
    }

    #[test]
    fn halves_are_tried_until_they_fit_and_stand_in_order() {
        let all: Vec<u32> = (0..11).collect();
        let (made, said) = sums(3, &all);
        let made = made.expect("they fit");
        assert!(made.iter().all(|some| some.len() <= 3));
        assert_eq!(made.concat(), all);
        assert_eq!(said, [6, 3, 3]);
        let (made, said) = sums(11, &all);
        assert_eq!((made.expect("they fit").len(), said.len()), (1, 0));
    }

    #[test]
    fn one_record_too_many_is_an_error() {
        let refused = sums(0, &[7, 8]).0.expect_err("no room");
        assert!(matches!(refused, Error::Device(Fault::OutOfMemory)));
    }

    #[test]
    fn a_lost_device_is_not_tried_again() {
        let work = |_: &[u32]| -> Result<()> {
            resume_unwind(Box::new(Fault::Lost("illegal access".to_owned())))
        };
        let refused =
            retry_in_halves(&[1, 2, 3], &|_| panic!("tried again"), &work).expect_err("lost");
        assert!(refused.to_string().contains("illegal access"));
    }
}
