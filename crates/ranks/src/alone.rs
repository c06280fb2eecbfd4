//! A group of one rank.

use crate::{Call, Error, Group, Pending, Phase, group::host_name, threads::carry_out};

/// The only rank of its group: every mean is its own value, bit for bit.
#[derive(Debug)]
pub struct Alone {
    hosts: [String; 1],
}

impl Alone {
    /// The rank of a process that trains alone.
    pub fn new() -> Self {
        Self { hosts: [host_name()] }
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}

impl Group for Alone {
    fn index(&self) -> usize {
        0
    }

    fn hosts(&self) -> &[String] {
        &self.hosts
    }

    fn start(&self, call: Call) -> Pending {
        Pending::ready(Ok(carry_out(vec![call]).remove(0)))
    }

    fn progress(&self, _: u64, _: Phase) {}

    fn fail(&self, _: &str) {}

    fn finish(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Parts, Precision};

    #[test]
    fn one_rank_gets_its_own_values_unrounded() {
        let rank = Alone::new();
        let values = vec![1.000_1, -0.0, 3e38];
        let parts = Parts::equal(3, 1);
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(rank.start_mean(values.clone(), precision).wait().unwrap(), values);
            assert_eq!(rank.start_reduce(values.clone(), &parts, precision).wait().unwrap(), values);
            assert_eq!(rank.start_gather(values.clone(), &parts, precision).wait().unwrap(), values);
        }
        assert_eq!(rank.broadcast(vec![1, 2], 0).unwrap(), [1, 2]);
        assert_eq!(rank.gather(vec![3]).unwrap(), [[3]]);
        rank.barrier().unwrap();
        rank.finish().unwrap();
    }
}
