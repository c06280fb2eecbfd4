/// The last `block_size` ids of a prompt, which are all that the model can read, and how many were left
/// out at its beginning.
///
/// # Example
///
/// ```
/// assert_eq!(sampler::crop(&[1, 2, 3, 4, 5], 3), (&[3, 4, 5][..], 2));
/// assert_eq!(sampler::crop(&[1, 2], 3), (&[1, 2][..], 0));
/// ```
pub fn crop(prompt: &[u32], block_size: usize) -> (&[u32], usize) {
    let n_dropped = prompt.len().saturating_sub(block_size);
    (&prompt[n_dropped..], n_dropped)
}

#[cfg(test)]
mod tests {
    use super::crop;

    #[test]
    fn only_what_does_not_fit_is_dropped_and_from_the_left() {
        let prompt = [7, 8, 9];
        assert_eq!(crop(&prompt, 2), (&[8, 9][..], 1));
        assert_eq!(crop(&prompt, 3), (&[7, 8, 9][..], 0));
        assert_eq!(crop(&prompt, usize::MAX), (&[7, 8, 9][..], 0));
        assert_eq!(crop(&prompt, 0), (&[][..], 3));
        assert_eq!(crop(&[], 2), (&[][..], 0));
    }
}
