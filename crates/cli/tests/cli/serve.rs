//! `kindling serve`.

use std::net::{Ipv4Addr, TcpListener};

use crate::support::{run, trained};

#[test]
fn help_matches_the_snapshot() {
    let help = run(trained(), &["serve", "--help"]).success().stdout;
    expect_test::expect_file!["help/serve.txt"].assert_eq(&help);
}

#[test]
fn another_address_needs_a_key_or_no_key() {
    for host in ["0.0.0.0", "192.168.1.1", "::"] {
        let error = run(trained(), &["serve", "--host", host]).usage_failure();
        assert!(error.contains("--api-key") && error.contains("--no-key"), "{error}");
    }
    let error = run(trained(), &["serve", "--api-key", "k", "--no-key"]).usage_failure();
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn invalid_arguments_are_named() {
    for (args, word) in [
        (&["--slots", "0"][..], "at least 1"),
        (&["--queue", "-1"], "at least 1"),
        (&["--timeout", "0"], "at least 1"),
        (&["--prompt-lookup", "16"], "from 0 to 15"),
        (&["--port", "70000"], "70000"),
        (&["--host", "example.org"], "IP address"),
        (&["--cors", "example.org"], "is not an origin"),
        (&["--api-key", ""], "API key"),
        (&["--port", "0", "--device", "cuda:all"], "only for training"),
    ] {
        let error = run(trained(), &[&["serve"][..], args].concat()).usage_failure();
        assert!(error.contains(word), "{args:?}: {error}");
    }
}

#[test]
fn two_models_of_one_name_are_refused() {
    let error = run(trained(), &["serve", "debug", "runs/debug"]).usage_failure();
    assert!(error.contains("two models are named `debug`"), "{error}");
    let error = run(trained(), &["serve", "debug", "nowhere"]).failure();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn more_slots_than_the_memory_holds_are_refused() {
    let error = run(trained(), &["serve", "--port", "0", "--slots", "9999999999"]).failure();
    assert!(error.contains("KV cache") && error.contains("fewer --slots"), "{error}");
}

#[test]
fn a_port_in_use_is_named() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let error = run(trained(), &["serve", "--port", &port]).failure();
    assert!(error.contains(&port) && error.contains("--port"), "{error}");
}

#[cfg(unix)]
mod running {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpStream,
        process::{Child, ChildStderr, Stdio},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use crate::support::{kindling, trained};

    /// A server that was started by the command.
    struct Server {
        child: Child,
        stderr: BufReader<ChildStderr>,
        /// The messages so far.
        messages: String,
        address: String,
    }

    impl Server {
        fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
            let mut command = kindling(trained(), &[&["serve", "--port", "0"], args].concat());
            command.env_remove("KINDLING_API_KEY").envs(env.iter().copied());
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let mut server = Self { child, stderr, messages: String::new(), address: String::new() };
            let line = server.wait_for("serving debug on http://");
            server.address = line.rsplit("http://").next().unwrap().trim().to_owned();
            server
        }

        /// Reads messages up to a line with this text, and returns the line.
        fn wait_for(&mut self, text: &str) -> String {
            loop {
                let mut line = String::new();
                assert!(self.stderr.read_line(&mut line).unwrap() > 0, "no {text:?} in {}", self.messages);
                self.messages += &line;
                if line.contains(text) {
                    return line;
                }
            }
        }

        fn connect(&self, request: &str) -> TcpStream {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        }

        fn answer(&self, request: &str) -> String {
            let mut answer = String::new();
            self.connect(request).read_to_string(&mut answer).unwrap();
            answer
        }

        fn get(&self, path: &str) -> String {
            self.answer(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        }

        /// The exit code, with the rest of the messages in `messages`.
        fn exit_code(&mut self) -> i32 {
            self.stderr.read_to_string(&mut self.messages).unwrap();
            let code = self.child.wait().unwrap().code().expect("no signal ended it");
            let mut stdout = String::new();
            self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
            assert_eq!(stdout, "");
            code
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill(); // Only of use after a failed assertion.
            let _ = self.child.wait();
        }
    }

    /// A completion of a prompt.
    fn completion(prompt: &str) -> String {
        let body = format!("{{\"prompt\": \"{prompt}\", \"max_tokens\": 3}}");
        let length = body.len();
        format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    #[test]
    fn it_serves_until_a_signal_and_logs_no_prompts() {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let mut server = Server::start(&[], &[]);
            assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
            assert!(server.get("/health").ends_with("{\"status\":\"ok\"}"));
            assert!(server.get("/v1/models").contains("\"id\":\"debug\""));
            let answer = server.answer(&completion("secret"));
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            server.signal(signal);
            assert_eq!(server.exit_code(), 0, "{}", server.messages);
            let messages = &server.messages;
            assert!(messages.contains("/v1"), "{messages}");
            assert!(messages.contains("POST /v1/completions 200 in"), "{messages}");
            assert!(messages.contains("3 generated"), "{messages}");
            assert!(!messages.contains("secret"), "{messages}");
            assert!(messages.contains("stopping"), "{messages}");
        }
    }

    #[test]
    fn the_type_of_the_kv_cache_decides_its_memory() {
        let [size, half] = [&[][..], &["--kv-cache", "f16"]].map(|args| {
            let server = Server::start(args, &[]);
            assert!(server.answer(&completion("abc")).starts_with("HTTP/1.1 200 OK"));
            let metrics = server.get("/metrics");
            let line = metrics.lines().find(|line| line.starts_with("kindling_cache_bytes{")).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        });
        assert!(half > 0);
        assert_eq!(size, 2 * half);
    }

    /// Sends a request without its last byte, and waits until the server reads its body.
    fn begin_request(server: &Server) -> (TcpStream, String) {
        let request = completion("abc").replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1);
        let (start, end) = request.split_at(request.len() - 1);
        let mut stream = server.connect(start);
        let mut reply = [0; 25];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(str::from_utf8(&reply).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        (stream, end.to_owned())
    }

    #[test]
    fn the_first_signal_waits_for_requests_and_the_second_does_not() {
        let mut server = Server::start(&[], &[]);
        let (mut stream, end) = begin_request(&server);
        server.signal(Signal::SIGINT);
        server.wait_for("finishing 1 request;");
        stream.write_all(end.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert_eq!(server.exit_code(), 0, "{}", server.messages);

        let mut server = Server::start(&[], &[]);
        let _incomplete = begin_request(&server);
        server.signal(Signal::SIGINT);
        server.wait_for("finishing 1 request;");
        server.signal(Signal::SIGINT);
        assert_eq!(server.exit_code(), 130, "{}", server.messages);
    }

    #[test]
    fn the_key_may_be_in_the_environment() {
        let mut server = Server::start(&["--host", "0.0.0.0"], &[("KINDLING_API_KEY", "sk-env")]);
        server.address = server.address.replace("0.0.0.0", "127.0.0.1");
        let get = |headers: &str| {
            server.answer(&format!(
                "GET /v1/models HTTP/1.1\r\nHost: any.example\r\n{headers}Connection: close\r\n\r\n"
            ))
        };
        assert!(get("").starts_with("HTTP/1.1 401"));
        assert!(get("Authorization: Bearer sk-env\r\n").starts_with("HTTP/1.1 200"));
        assert!(server.get("/health").starts_with("HTTP/1.1 200"));
        server.signal(Signal::SIGINT);
        assert_eq!(server.exit_code(), 0);
        assert!(!server.messages.contains("sk-env"), "{}", server.messages);
    }
}
