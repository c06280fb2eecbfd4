//! Whether all ranks train the same: compared before the first step.

use crate::{Error, Group};

/// Compares named values (hashes of the program, the recipe, the data) over all ranks. All ranks get the same result.
///
/// # Errors
///
/// If a value or the list of names differs; the error lists each difference with ranks and hosts. If a rank fails.
///
/// # Panics
///
/// If a rank sends something else at the same time.
pub fn agree(group: &dyn Group, values: &[(&str, &str)]) -> Result<(), Error> {
    let mine = serde_json::to_vec(values).expect("strings serialise");
    let all: Vec<Vec<(String, String)>> = group.gather(mine)?.iter().map(|bytes| decode(bytes)).collect();

    let names =
        all.iter().map(|values| values.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "));
    let names: Vec<String> = names.collect();
    if let Some(difference) = difference("compared values", &names, group.hosts()) {
        return Err(Error::Disagreement(difference));
    }
    let differences = (0..values.len()).filter_map(|idx| {
        let column: Vec<String> = all.iter().map(|values| values[idx].1.clone()).collect();
        difference(values[idx].0, &column, group.hosts())
    });
    match differences.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => Ok(()),
        differences => Err(Error::Disagreement(differences)),
    }
}

fn decode(bytes: &[u8]) -> Vec<(String, String)> {
    serde_json::from_slice(bytes).expect("all ranks compare their values now")
}

/// The most ranks that an error lists for a value.
const RANKS_MAX: usize = 8;

/// `data is 3f on rank 0 (a), rank 2 (a) and 77 on rank 1 (b)`; `None` if all values are equal.
fn difference(name: &str, values: &[String], hosts: &[String]) -> Option<String> {
    let mut distinct: Vec<&String> = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    let holders = |value: &&String| {
        let ranks = values.iter().zip(hosts).enumerate().filter(|(_, (of, _))| of == value);
        let mut ranks: Vec<String> = ranks.map(|(rank, (_, host))| format!("rank {rank} ({host})")).collect();
        let n_more = ranks.len().saturating_sub(RANKS_MAX);
        ranks.truncate(RANKS_MAX);
        ranks.extend((n_more > 0).then(|| format!("{n_more} more")));
        format!("{value} on {}", ranks.join(", "))
    };
    (distinct.len() > 1)
        .then(|| format!("{name} is {}", distinct.iter().map(holders).collect::<Vec<_>>().join(" and ")))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::Threads;

    fn results(values: [&'static [(&'static str, &'static str)]; 3]) -> Vec<Result<(), Error>> {
        let ranks = Threads::group(3);
        thread::scope(|scope| {
            let spawn =
                |(rank, values): (_, &'static [_])| scope.spawn(move || agree(rank as &Threads, values));
            let handles: Vec<_> = ranks.iter().zip(values).map(spawn).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        })
    }

    #[test]
    fn equal_values_agree() {
        assert_eq!(results([&[("recipe", "5a"), ("data", "3f")]; 3]), [Ok(()), Ok(()), Ok(())]);
    }

    #[test]
    fn the_error_names_what_differs_and_where() {
        let same = &[("recipe", "5a"), ("data", "3f")][..];
        let all = results([same, &[("recipe", "5a"), ("data", "77")], same]);
        let error = all[0].clone().unwrap_err().to_string();
        let host = crate::group::host_name();
        assert!(
            error.contains(&format!(
                "data is 3f on rank 0 ({host}), rank 2 ({host}) and 77 on rank 1 ({host});"
            )),
            "{error}"
        );
        assert!(!error.contains("5a"), "{error}");
        assert!(all.iter().all(|result| *result == all[0]));
    }

    #[test]
    fn a_long_list_of_ranks_is_cut() {
        let mut values = vec!["3f".to_owned(); 12];
        values[1] = "77".to_owned();
        let text = difference("data", &values, &vec!["a".to_owned(); 12]).unwrap();
        assert!(text.contains("rank 8 (a), 3 more and 77 on rank 1 (a)"), "{text}");
    }

    #[test]
    fn ranks_that_compare_different_values_disagree() {
        let all = results([&[("recipe", "5a")], &[], &[("recipe", "5a")]]);
        assert!(all[1].clone().unwrap_err().to_string().contains("compared values is recipe on rank 0"));
    }
}
