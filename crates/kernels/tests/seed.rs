//! A seed fixes what dropout drops. Alone in its program: tests that run at the same time share the device's
//! generator.

use burn::prelude::*;

#[test]
fn a_seed_fixes_the_mask() {
    let device = kernels::test_device().autodiff();
    let draw = |seed| {
        device.seed(seed);
        kernels::dropout(Tensor::<1>::ones([100], &device), 0.5).into_data()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
