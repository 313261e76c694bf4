//! How much is computed at a time: what fits by the shapes of the model, and half of it where the
//! device's memory is not enough all the same.

use debias_model::Workers;
use debias_model::device::{Fault, guard};

use crate::exit::Exit;
use crate::failure::{Refusal, lost};
use crate::machine::human_bytes;

/// How much is computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    /// Records, rows or pictures of each worker.
    pub(crate) size: usize,
    /// Who computes it.
    pub(crate) workers: Workers,
}

impl Portion {
    /// What of this fits into `room` bytes, where each `what` takes `each`. As many of them as one
    /// worker has room for, so that the number of workers changes no result; then as many workers as
    /// have room beside each other.
    ///
    /// # Errors
    /// [`Exit::Device`] when there is not room for one.
    pub(crate) fn within(self, room: u64, each: u64, what: &str) -> Result<Self, Refusal> {
        let fit = |bytes: u64, most: usize| {
            usize::try_from(room / bytes.max(1)).map_or(most, |fit| fit.min(most))
        };
        let size = fit(each, self.size);
        if size == 0 {
            let (each, room) = (human_bytes(each), human_bytes(room));
            return Err(Refusal::new(
                Exit::Device,
                format!("one {what} takes about {each} of memory to compute, and {room} is left beside what is held"),
            )
            .help("A larger --max-memory, --dtype bf16 or another --device may do."));
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
/// memory of ever smaller halves; `say` is told how many are tried next.
///
/// # Errors
/// The error of `work`; a device that has not even room for one, or that is lost.
pub(crate) fn retry_in_halves<R, T>(
    all: &[R],
    say: &(dyn Fn(usize) + Sync),
    work: &dyn Fn(&[R]) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
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
        Err(fault) => Err(lost(&fault).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::sync::Mutex;

    use super::*;
    use crate::failure::classify;

    /// Room for so many numbers at a time.
    fn sums(room: usize, all: &[u32]) -> (anyhow::Result<Vec<Vec<u32>>>, Vec<usize>) {
        let said = Mutex::new(Vec::new());
        let say = |n| said.lock().expect("alone").push(n);
        let work = |some: &[u32]| match some.len() <= room {
            true => Ok(some.to_vec()),
            false => resume_unwind(Box::new(Fault::OutOfMemory)),
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
        let refused = found(99, 100).expect_err("no room");
        assert_eq!(classify(&refused.into()).0, Exit::Device);
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
    fn one_record_too_many_is_an_error_with_an_exit_of_its_own() {
        let refused = sums(0, &[7, 8]).0.expect_err("no room");
        assert_eq!(classify(&refused).0, Exit::Device);
    }

    #[test]
    fn a_lost_device_is_not_tried_again() {
        let work = |_: &[u32]| -> anyhow::Result<()> {
            resume_unwind(Box::new(Fault::Lost("illegal access".to_owned())))
        };
        let refused =
            retry_in_halves(&[1, 2, 3], &|_| panic!("tried again"), &work).expect_err("lost");
        assert!(refused.to_string().contains("illegal access"));
    }
}
