//! RMSNorm, SwiGLU, softmax, log-sum-exp and addition: near f64, and the same bits on every instruction set.

use lime_kernels::{Gate, Isa, Kernels, Pool, RopeTable};
use proptest::prelude::*;

fn vector(most: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-30.0f32..30.0, 1..most)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Kernels of every instruction set, scalar with one thread last.
fn all(threads: usize) -> Vec<Kernels> {
    let mut kernels: Vec<_> = Isa::available().into_iter().map(|isa| Kernels::new(isa, threads)).collect();
    kernels.push(Kernels::new(Isa::Scalar, 1));
    kernels
}

/// Runs `f` on every kernel, asserts equal bits and returns them.
fn agree(threads: usize, f: impl Fn(&Kernels) -> Vec<f32>) -> Vec<f32> {
    let results: Vec<_> = all(threads).iter().map(f).collect();
    for result in &results {
        assert_eq!(bits(result), bits(&results[0]));
    }
    results[0].clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rms_norm(x in vector(300), rows in 1usize..40, threads in 1usize..4) {
        let n = x.len();
        let weight: Vec<f32> = x.iter().rev().map(|x| x / 10.0 + 1.0).collect();
        let many: Vec<f32> = (0..rows).flat_map(|row| x.iter().map(move |x| x * (row + 1) as f32)).collect();
        let out = agree(threads, |kernels| {
            let mut out = vec![0.0; many.len()];
            kernels.rms_norm(&many, &weight, 1e-5, &mut out);
            let mut in_place = many.clone();
            kernels.rms_norm_in_place(&mut in_place, &weight, 1e-5);
            assert!(in_place.iter().zip(&out).all(|(one, other)| one.to_bits() == other.to_bits()));
            out
        });
        let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n as f64;
        for i in 0..n {
            let exact = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i]);
            prop_assert!((f64::from(out[i]) - exact).abs() < 1e-5 * (1.0 + exact.abs()));
        }
    }

    #[test]
    fn gates_and_add(gate in vector(200), threads in 1usize..4) {
        let up: Vec<f32> = gate.iter().rev().copied().collect();
        let gelu = |x: f64| x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
        let silu = |x: f64| x / (1.0 + (-x).exp());
        for (f, exactly, off) in [(Gate::Silu, &silu as &dyn Fn(f64) -> f64, 0.0), (Gate::GeluTanh, &gelu, 1e-7)] {
            let out = agree(threads, |kernels| {
                let mut out = vec![0.0; gate.len()];
                kernels.gated(f, &gate, &up, &mut out);
                out
            });
            for i in 0..gate.len() {
                let (g, u) = (f64::from(gate[i]), f64::from(up[i]));
                let exact = exactly(g) * u;
                let near = 1e-6 * (1e-6 + exact.abs()) + 1e-30 + off * u.abs() * (1.0 + g.abs());
                prop_assert!((f64::from(out[i]) - exact).abs() < near, "{f:?} {g} {u}: {} {exact}", out[i]);
            }
        }
        let capped = agree(threads, |kernels| {
            let mut x = gate.clone();
            kernels.soft_cap(30.0, &mut x);
            x
        });
        for (x, y) in gate.iter().zip(&capped) {
            prop_assert!((30.0 * (f64::from(*x) / 30.0).tanh() - f64::from(*y)).abs() < 2e-5);
        }
        let sums = agree(threads, |kernels| {
            let mut x = gate.clone();
            kernels.add(&mut x, &up);
            x
        });
        prop_assert!(sums.iter().zip(gate.iter().zip(&up)).all(|(s, (g, u))| *s == g + u));
    }

    #[test]
    fn softmax_and_log_sum_exp(x in vector(300)) {
        let p = agree(1, |kernels| {
            let mut p = x.clone();
            kernels.softmax(&mut p);
            p.push(kernels.log_sum_exp(&x));
            p
        });
        let mut alone = x.clone();
        lime_kernels::softmax(&mut alone);
        prop_assert!(alone.iter().zip(&p).all(|(alone, p)| alone.to_bits() == p.to_bits()));
        let total: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
        for (p, x) in p.iter().zip(&x) {
            prop_assert!((f64::from(*p) - f64::from(*x).exp() / total).abs() < 1e-6);
        }
        prop_assert!((f64::from(p[x.len()]) - total.ln()).abs() < 1e-5);
    }

    #[test]
    fn rope(seed in 0u32..100, heads in 1usize..4, half in 1usize..40, rows in 1usize..5) {
        let frequencies: Vec<f64> = (0..half).map(|i| 0.5f64.powi(i as i32)).collect();
        let table = RopeTable::new(&frequencies, 128, 1.0);
        let positions: Vec<u32> = (0..rows as u32).map(|row| (row * 37 + seed) % 128).collect();
        let x: Vec<f32> = (0..rows * heads * 2 * half).map(|i| (i % 17) as f32 - 8.0).collect();
        let y = agree(2, |kernels| {
            let mut y = x.clone();
            kernels.rope(&mut y, heads, 2 * half, &positions, &table);
            y
        });
        // A rotation keeps lengths.
        for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact(2 * half)) {
            for i in 0..half {
                prop_assert!((x[i].hypot(x[i + half]) - y[i].hypot(y[i + half])).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn edges() {
    let kernels = Kernels::new(Isa::detect(), 1);
    kernels.softmax(&mut []);
    assert_eq!(kernels.log_sum_exp(&[]), f32::NEG_INFINITY);
    let mut x = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    kernels.softmax(&mut x);
    assert_eq!(x, [0.0, 1.0, 0.0]);
    let mut out = [1.0; 3];
    for f in [Gate::Silu, Gate::GeluTanh] {
        kernels.gated(f, &[-1e30, 0.0, 1e30], &[1.0; 3], &mut out);
        assert_eq!(out, [0.0, 0.0, 1e30]);
    }
    let mut x = [f32::NEG_INFINITY, 0.0, f32::INFINITY];
    kernels.soft_cap(30.0, &mut x);
    assert_eq!(x, [-30.0, 0.0, 30.0]);
}

#[test]
#[should_panic(expected = "whole rows of 3")]
fn half_a_row_panics() {
    Kernels::new(Isa::Scalar, 1).rms_norm(&[0.0; 4], &[1.0; 3], 1e-5, &mut [0.0; 4]);
}

#[test]
fn a_pool_runs_every_task_once_however_it_is_called() {
    use std::sync::atomic::{AtomicU32, Ordering};
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for round in 0..300 {
            if round % 100 == 99 {
                // Long enough for the workers to park.
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let counts: Vec<AtomicU32> = (0..round % 17).map(|_| AtomicU32::new(0)).collect();
            pool.run(counts.len(), |task| {
                counts[task].fetch_add(1, Ordering::Relaxed);
                // A loop inside a loop works alone.
                pool.run(2, |_| ());
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(3);
    for _ in 0..20 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(16, |task| assert!(task != 7, "task seven"));
        }));
        assert!(outcome.is_err());
        pool.run(16, |_| ());
    }
}
