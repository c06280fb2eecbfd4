#![allow(clippy::all, missing_docs)]
use std::{collections::BTreeMap, time::Instant};
use burn::{module::Module, prelude::*, tensor::Distribution};
use model::{Documents, Gpt, GptConfig, Lora};

fn time(name: &str, mut f: impl FnMut()) {
    f();
    let n = 7;
    let mut times: Vec<f64> = (0..n).map(|_| { let t = Instant::now(); f(); t.elapsed().as_secs_f64() * 1e3 }).collect();
    times.sort_by(f64::total_cmp);
    println!("{name:50} {:8.1} ms (min {:.1})", times[n / 2], times[0]);
}

fn config(n_layer: usize, vocab: usize) -> GptConfig {
    let mut c = GptConfig::debug_modern();
    c.n_layer = n_layer; c.n_embd = 576; c.vocab_size = vocab; c.block_size = 512;
    c.attention.n_head = 9; c.attention.n_kv_head = Some(3); c.attention.qk_norm = false; c.attention.head_dim = Some(64);
    c.feed_forward.n_inner = Some(1536); c.dropout = 0.0; c.tie_embeddings = true; c.bias = false; c.attention.qkv_bias = false;
    c
}

fn lora(config: &GptConfig, device: &Device) -> Gpt {
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 0.02), device);
    let u = |n_in: usize, n: usize, first: usize| Lora::new(random([16, n_in]), random([n, 16]), first, 2.0);
    let layers = (0..config.n_layer).flat_map(|idx| [
        (format!("blocks.{idx}.attention.qkv"), vec![u(576, 576, 0), u(576, 192, 576), u(576, 192, 768)]),
        (format!("blocks.{idx}.attention.project"), vec![u(576, 576, 0)]),
        (format!("blocks.{idx}.feed_forward.expand"), vec![u(576, 1536, 0), u(576, 1536, 1536)]),
        (format!("blocks.{idx}.feed_forward.project"), vec![u(1536, 576, 0)]),
    ]);
    config.init(1, device).unwrap().with_lora(layers.collect::<BTreeMap<_, _>>())
}

fn rss() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS")).collect::<Vec<_>>().join(" ")
}

#[test]
fn measure() {
    let device = Device::flex();
    let train = device.clone().autodiff();
    println!("{:?}", config(1, 64));
    let ids = |vocab: i64| (Tensor::<1, Int>::arange(0..2048, &train) % vocab).reshape([4, 512]);
    kernels::on_pool(|| {
        for vocab in [64usize, 49152] {
            for n_layer in [0usize, 2] {
                if n_layer == 0 && vocab == 64 { continue; }
                let c = config(n_layer.max(1), vocab);
                let full = c.init(1, &device).unwrap().train();
                let all = lora(&c, &device).train();
                let only = lora(&c, &device).lora_only().train();
                let frozen_drop = lora(&c, &device).lora_only().with_lora_dropout(0.05).train();
                let fwd = |m: &Gpt| { m.loss(ids(vocab as i64), ids(vocab as i64)).into_data(); };
                let step = |m: &Gpt| { let l = m.loss(ids(vocab as i64), ids(vocab as i64)); let _g = l.backward(); };
                let tag = format!("V={vocab} L={}", c.n_layer);
                let valid = full.valid();
                let dev_ids = || (Tensor::<1, Int>::arange(0..2048, &device) % vocab as i64).reshape([4, 512]);
                time(&format!("{tag} inference forward"), || { valid.loss(dev_ids(), dev_ids()).into_data(); });
                time(&format!("{tag} full forward+backward"), || step(&full));
                time(&format!("{tag} lora, nothing frozen"), || step(&all));
                time(&format!("{tag} lora only"), || step(&only));
                time(&format!("{tag} lora only, dropout"), || step(&frozen_drop));
                time(&format!("{tag} full forward+backward"), || step(&full));
                time(&format!("{tag} lora only"), || step(&only));
                time(&format!("{tag} full forward (tracked)"), || fwd(&full));
                time(&format!("{tag} lora forward (tracked)"), || fwd(&only));
                println!("{}", rss());
            }
        }
        // Packing.
        let rope = kernels::Rope::new(64, 2048, 1e4);
        let attention = kernels::Attention { n_head: 9, n_kv_head: 3, qk_norm: None, rope: Some(rope), precision: kernels::Precision::F32 };
        for t in [512usize, 2048] {
            let b = 2048 / t;
            let qkv: Tensor<3> = Tensor::random([b, t, 15 * 64], Distribution::Normal(0.0, 1.0), &train).require_grad();
            let run = |docs: Option<&Documents>| { let y = kernels::causal_attention(qkv.clone(), &attention, docs, 0.0); let _ = y.sum().backward(); };
            time(&format!("attention B={b} T={t}, no documents"), || run(None));
            time(&format!("attention B={b} T={t}, one document"), || run(Some(&Documents::new(&vec![t; b], t))));
            for n in [256usize, 128, 64, 32] {
                let d = Documents::new(&vec![n; 2048 / n], t);
                time(&format!("attention B={b} T={t}, documents of {n}"), || run(Some(&d)));
            }
            let mut lens = vec![]; 
            for _ in 0..b { let mut left = t; let mut i = 0; while left > 0 { let n = [180usize, 37, 95, 61, 139][i % 5].min(left); lens.push(n); left -= n; i += 1; } }
            let d = Documents::new(&lens, t);
            time(&format!("attention B={b} T={t}, mixed documents"), || run(Some(&d)));
        }
        for (h, kv) in [(9usize, 3usize)] {
            // One row: few groups.
            let qkv: Tensor<3> = Tensor::random([1, 512, (h + 2 * kv) * 64], Distribution::Normal(0.0, 1.0), &train).require_grad();
            let _ = qkv;
        }
    });
}
