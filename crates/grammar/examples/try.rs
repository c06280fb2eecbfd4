use grammar::*; use tokenizer::Tokenizer; use std::time::Instant;
fn show(v:&Vocabulary,t:&Tokenizer,g:Grammar,text:&str){
    match g.constraint(v) { Err(e)=>println!("  ERR {e}"), Ok(mut c)=>{
        print!("  start complete={} ",c.is_complete());
        for id in t.encode(text).unwrap(){ 
            let mut l=vec![0.0f32; t.vocab_size()];
            if let Err(e)=c.restrict(&mut l){println!("restrict ERR {e}");return}
            if l[id as usize]!=0.0 {println!("forbidden {:?}",t.decode(&[id]));return}
            if let Err(e)=c.accept(id){println!("ERR {e}");return} }
        let mut l=vec![0.0f32; t.vocab_size()];
        let r=c.restrict(&mut l);
        let allowed:Vec<String>=(0..).zip(&l).filter(|(_,x)|**x==0.0).take(12).map(|(i,_)|format!("{:?}",t.decode(&[i]))).collect();
        println!("after {text:?}: complete={} {r:?} {}",c.is_complete(),allowed.join(" "));
    }}
}
fn main(){
    let t=Tokenizer::gpt2(); let now=Instant::now();
    let eos=[t.end_of_text().unwrap()];
    let v=Vocabulary::new(&t,&eos).unwrap(); println!("gpt2 vocabulary {:?}",now.elapsed());
    let b=Tokenizer::byte(); let vb=Vocabulary::new(&b,&[]).unwrap();
    for (v,t) in [(&v,&t),(&vb,&b)] {
    for (g,x) in [(Grammar::json_object(),""),(Grammar::json_object(),"{"),(Grammar::json_object(),"{}"),(Grammar::json_object(),"{\"a\": 1"),(Grammar::json_object(),"{\n  \"a\": \"x\""),
      (Grammar::json_object(),"{\n\n"),
      (Grammar::regex("a+"),"a"),(Grammar::regex(""),""),(Grammar::regex("a\\"),""),(Grammar::regex("(a"),""),(Grammar::regex("^ab$"),""),(Grammar::regex("a/b"),"a"),(Grammar::regex("a(?=b)"),""),(Grammar::regex("é|è"),""),
      (Grammar::regex("[a-z]{2,1}"),""),(Grammar::regex("a\nb"),"a"),(Grammar::regex("[^a]"),""),
      (Grammar::lark("start: \"a\" b\nb: \"x\" | b \"y\""),"a"),(Grammar::lark("start: foo"),""),(Grammar::lark("start: \"a"),""),(Grammar::lark("x"),""),(Grammar::lark(""),""),(Grammar::lark("start: a\na: a"),""),(Grammar::lark("start: /a/ <|endoftext|>"),"a"),
      (Grammar::json_schema(&serde_json::json!({"type":"objct"})),""),(Grammar::json_schema(&serde_json::json!(false)),""),(Grammar::json_schema(&serde_json::json!(3)),""),(Grammar::json_schema(&serde_json::json!({"properties":{"a":{"properties":{"b":{"not":{}}}}}})),""),
      (Grammar::json_schema(&serde_json::json!({"$ref":"http://x.y/z"})),""),(Grammar::json_schema(&serde_json::json!({"$ref":"file:///etc/passwd"})),""),(Grammar::json_schema(&serde_json::json!({"$ref":"#/$defs/a"})),""),
      (Grammar::json_schema(&serde_json::json!({"type":"string","pattern":"(("})),""),
      (Grammar::json_schema(&serde_json::json!({"type":"integer","minimum":3,"maximum":2})),""),
      (Grammar::json_schema(&serde_json::json!({"oneOf":[{"type":"integer"},{"type":"number"}]})),""),
      (Grammar::json_schema(&serde_json::json!({"x-guidance":{"bad":1}})),""),
      (Grammar::json_schema(&serde_json::json!({"const":"hello world, this is a long text"})),""),
      (Grammar::json_schema(&serde_json::json!(true)),"1"),
    ]{ println!("{g:?}"); show(v,t,g,x);} }
    // timing
    for (name,g,x) in [("object",Grammar::json_object(),"{\"name\": \"Once upon a time there was a fox\", \"list\": [1, 2, 3, {\"a\": null}], \"x\": true}"),("regex",Grammar::regex("[a-z ]{0,200}"),"the quick brown fox jumps over the lazy dog"),
       ("any", Grammar::regex("(?s:.*)"), "the quick brown fox jumps over the lazy dog")]{
        let now=Instant::now(); let mut c=g.constraint(&v).unwrap(); let compile=now.elapsed();
        let ids=t.encode(x).unwrap(); let mut l=vec![0.0f32;50257]; let now=Instant::now(); let mut worst=0.0f64; let mut acc=0.0;
        for &id in &ids { let n=Instant::now(); c.restrict(&mut l).unwrap(); let e=n.elapsed().as_secs_f64(); if e>worst{worst=e}; let n=Instant::now(); c.accept(id).unwrap(); acc+=n.elapsed().as_secs_f64(); }
        println!("{name}: compile {compile:?}, {:?} per token over {} (worst restrict {:.3} ms, accept {:.3} ms)",now.elapsed()/ids.len() as u32,ids.len(),worst*1e3,acc*1e3/ids.len() as f64);
        let n=Instant::now(); let _=c.fork(); println!("fork {:?}",n.elapsed());
    }
}
