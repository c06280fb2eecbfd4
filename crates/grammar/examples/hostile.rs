use grammar::*; use tokenizer::Tokenizer; use std::time::Instant;
fn main(){ std::thread::Builder::new().stack_size(std::env::var("STACK").unwrap().parse::<usize>().unwrap()<<20).spawn(run).unwrap().join().unwrap() }
fn run(){
    let t=Tokenizer::gpt2(); let eos=[50256];
    let v=Vocabulary::new(&t,&eos).unwrap();
    let nested=|n:usize|{let mut s=serde_json::json!({"type":"integer"}); for _ in 0..n{s=serde_json::json!({"type":"array","items":s});} s};
    let anyof=|n:usize|{let mut s=serde_json::json!({"type":"integer"}); for _ in 0..n{s=serde_json::json!({"anyOf":[s.clone(),{"type":"array","items":s}]});} s};
    let props=|n:usize|{let m:serde_json::Map<String,serde_json::Value>=(0..n).map(|i|(format!("key{i}"),serde_json::json!({"type":"string"}))).collect(); serde_json::json!({"type":"object","properties":m})};
    let en=|n:usize|serde_json::json!({"enum":(0..n).map(|i|format!("value number {i}")).collect::<Vec<_>>()});
    let g:Vec<(&str,Grammar)>=vec![
      ("nested120",Grammar::json_schema(&nested(120))),("nested5000",Grammar::json_schema(&nested(127))),
      ("anyof10",Grammar::json_schema(&anyof(12))),("props100",Grammar::json_schema(&props(100))),("props500",Grammar::json_schema(&props(500))),("props1000",Grammar::json_schema(&props(1000))),("props2000",Grammar::json_schema(&props(2000))),("props5000",Grammar::json_schema(&props(5000))),
      ("enum10000",Grammar::json_schema(&en(10000))),("const100k",Grammar::json_schema(&serde_json::json!({"const":"the quick brown fox ".repeat(5000)}))),
      ("maxlen",Grammar::json_schema(&serde_json::json!({"type":"string","minLength":100000,"maxLength":1000000}))),
      ("maxitems",Grammar::json_schema(&serde_json::json!({"type":"array","items":{"type":"string"},"minItems":1000000}))),
      ("pattern",Grammar::json_schema(&serde_json::json!({"type":"string","pattern":"^(a|b|ab)*c{1000}[a-z]{0,1000}d$"}))),
      ("multiple",Grammar::json_schema(&serde_json::json!({"type":"integer","multipleOf":9999991}))),
      ("refloop",Grammar::json_schema(&serde_json::json!({"$ref":"#"}))),("refloop2",Grammar::json_schema(&serde_json::json!({"allOf":[{"$ref":"#"},{"type":"integer"}]}))),
      ("reps",Grammar::regex("((a{1000}){1000}){1000}")),("reps2",Grammar::regex("(([a-z]{1,100}x){1,100}y){1,100}")),("classes",Grammar::regex("(.*a.{20}){10}")),("ex",Grammar::regex("(a|a|aa)*(b|ab|a)*.{50}c")),
      ("blowup",Grammar::regex("(?s:.*)a(?s:.){500}b")),("unicode",Grammar::regex(r"\p{L}{1,1000}\w{1,1000}")),
      ("longlit",Grammar::regex(&"abc ".repeat(50000))),("alts",Grammar::regex(&(0..20000).map(|i|format!("w{i}")).collect::<Vec<_>>().join("|"))),
      ("parens",Grammar::regex(&format!("{}{}","(".repeat(5000),")".repeat(5000)))),("parens200",Grammar::regex(&format!("{}a{}","(".repeat(200),")*".repeat(200)))),
      ("stars",Grammar::regex(&format!("a{}","*".repeat(10000)))),
      ("lark amb",Grammar::lark("start: e\ne: e e | \"a\" | e \"+\" e | \"(\" e \")\"")),("lark null",Grammar::lark("start: a*\na: b*\nb: a* \"x\"?")),
      ("lark nest",Grammar::lark(&format!("start: {}\"a\"{}","(".repeat(5000),")".repeat(5000)))),
      ("lark rules",Grammar::lark(&(0..20000).map(|i|format!("r{i}: r{} \"a\"",i+1)).chain(["start: r0".into(),"r20000: \"b\"".into()]).collect::<Vec<_>>().join("\n"))),
      ("lark rules1000",Grammar::lark(&(0..1000).map(|i|format!("r{i}: r{} \"a\"",i+1)).chain(["start: r0".into(),"r1000: \"b\"".into()]).collect::<Vec<_>>().join("\n"))),("lark fit",Grammar::lark(&(0..6000).map(|i|format!("a{i:x}:a{:x}",i+1)).chain(["start:a0".into(),"a1770:\"b\"".into()]).collect::<Vec<_>>().join("\n"))),("propsfit",Grammar::json_schema(&{let m:serde_json::Map<String,serde_json::Value>=(0..4500).map(|i|(format!("k{i}"),serde_json::json!({}))).collect(); serde_json::json!({"type":"object","properties":m})})),("lark rep",Grammar::lark("start: (\"a\" \"b\"){1000000}")),("lark rep2",Grammar::lark("start: a{1000}\na: b{1000}\nb: c{1000}\nc: \"x\"")),
      ("lark import",Grammar::lark("%import common.INT\nstart: INT")),("lark importfile",Grammar::lark("%import .foo.INT\nstart: INT")),
      ("lark lazy",Grammar::lark("start: a\na[lazy]: /.*x.{100}y/")),("lark temp",Grammar::lark("start[temperature=0.1, max_tokens=3]: /.*/")),("lark any",Grammar::lark("start: <[*]>")),("lark range",Grammar::lark("start: <[0-50256]>+")),("lark not", Grammar::lark("start: <[^50256]>")),
      ("lark stop",Grammar::lark("start: foo\nfoo[stop=\"x\"]: /.*/")),("lark suffix",Grammar::lark("start: foo\nfoo[suffix=\"x\"]: /.*/")),("lark utf8", Grammar::lark("%llguidance {\"allow_invalid_utf8\": true}\nstart: /(?s-u:.)+/")),
    ];
    let only=std::env::args().nth(1);
    for (name,g) in g { if only.as_deref().is_some_and(|o|o!=name){continue}
        let now=Instant::now(); let c=g.check(); let check=now.elapsed(); let now=Instant::now();
        match g.constraint(&v){ Err(e)=>{let mut s=e.to_string(); s.truncate(200); println!("{name}: check {check:?} {} {:?} ERR {s}",c.is_ok(),now.elapsed())},
          Ok(mut c)=>{ let compile=now.elapsed(); let mut r=1u64; let mut worst=0.0f64; let mut text=String::new(); let mut end=String::from("limit");
            for i in 0..40 { let mut l=vec![0.0f32;50257]; let n=Instant::now(); if let Err(e)=c.restrict(&mut l){end=e.to_string();end.truncate(150);break} worst=worst.max(n.elapsed().as_secs_f64());
              let a:Vec<u32>=(0..).zip(&l).filter(|(_,x)|**x==0.0).map(|(i,_)|i).collect(); r=r.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407+i); let id=a[(r>>33) as usize%a.len()]; text+=&t.decode(&[id]);
              let n=Instant::now(); if let Err(e)=c.accept(id){end=format!("accept {e}");end.truncate(150);break} worst=worst.max(n.elapsed().as_secs_f64());
              if c.is_complete(){end="complete".into();break} }
            text.truncate(text.floor_char_boundary(100)); println!("{name}: check {check:?} compile {compile:?} worst step {:.1} ms end {end} {text:?}",worst*1e3); } }
    }
}
