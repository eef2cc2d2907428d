//! Amazon's API as two programs play it: ministack for what Route 53 does, moto for whether
//! requests are signed. Both stand behind a door that can answer for them, or let nothing back.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::ports::free_port;
use crate::support::processes::watch;
use crate::support::wait_until;

pub(super) const ZONE: &str = "example.test";
const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";
const SOON: Duration = Duration::from_secs(60);

/// What happens to a request at the door.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It is answered here.
    Answer(u16, String),
    /// It is carried out, and no answer comes.
    Hang,
    /// It is carried out, and the connection breaks.
    Cut,
    /// Somebody else makes these changes right before it.
    Meanwhile(String),
}

impl Fault {
    /// As AWS says it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Answer(
            status,
            format!(
                "<?xml version=\"1.0\"?>\n<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender\
                 </Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId>\
                 </ErrorResponse>"
            ),
        )
    }

    /// As Route 53 says it of a batch.
    pub(super) fn batch(message: &str) -> Self {
        Self::Answer(
            400,
            format!(
                "<?xml version=\"1.0\"?>\n<InvalidChangeBatch xmlns=\"{NAMESPACE}\"><Messages><Message>\
                 {message}</Message></Messages><RequestId>r</RequestId></InvalidChangeBatch>"
            ),
        )
    }
}

/// What passed the door.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: String,
}

#[derive(Debug, Default)]
struct Book {
    requests: Vec<Request>,
    /// For requests of a method, in order.
    faults: VecDeque<(&'static str, Fault)>,
}

/// A running program and the door before it.
pub(super) struct Aws {
    child: Child,
    /// Ends it when the test process is gone, however it went.
    watch: Child,
    port: u16,
    door: u16,
    book: Arc<Mutex<Book>>,
    _dir: TempDir,
}

impl Aws {
    /// A Route 53 that knows what it has, with a zone of two records.
    pub(super) async fn ministack() -> (Self, String) {
        let aws = Self::start("ministack", |command, port| {
            let port = port.to_string();
            command.env("BIND_HOST", "127.0.0.1");
            command.env("GATEWAY_PORT", port).env("LOG_LEVEL", "ERROR");
        })
        .await;
        let zone = aws.zone(ZONE, "public").await;
        (aws, zone)
    }

    /// An AWS that checks who signed a change.
    pub(super) async fn moto() -> (Self, String) {
        let aws = Self::start("moto_server", |command, port| {
            let port = port.to_string();
            command.args(["-H", "127.0.0.1", "-p", port.as_str()]);
        })
        .await;
        let zone = aws.zone(ZONE, "public").await;
        (aws, zone)
    }

    async fn start(program: &str, arguments: impl FnOnce(&mut Command, u16)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(installed(program));
        arguments(&mut command, port);
        // Before the server: should it not come up, nobody is left behind.
        let root = dir.path().canonicalize().unwrap();
        let watch = watch(&root, &root);
        let child = command
            .current_dir(&root)
            .env("HOME", &root)
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let book = Arc::new(Mutex::new(Book::default()));
        let door = open_door(port, Arc::clone(&book), program == "moto_server").await;
        let aws = Self {
            child,
            watch,
            port,
            door,
            book,
            _dir: dir,
        };
        let listening = || async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
        wait_until(program, SOON, listening).await;
        aws
    }

    /// Where the provider is to go.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.door)
    }

    pub(super) fn fail_next(&self, method: &'static str, fault: Fault) {
        self.book.lock().unwrap().faults.push_back((method, fault));
    }

    /// What the provider asked so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.book.lock().unwrap().requests.clone()
    }

    pub(super) fn posts(&self) -> usize {
        let requests = self.requests();
        requests.iter().filter(|it| it.method == "POST").count()
    }

    /// Makes a zone; its id.
    pub(super) async fn zone(&self, name: &str, reference: &str) -> String {
        let private = (reference == "private")
            .then_some("<HostedZoneConfig><PrivateZone>true</PrivateZone></HostedZoneConfig>");
        let vpc =
            private.map(|_| "<VPC><VPCRegion>us-east-1</VPCRegion><VPCId>vpc-1</VPCId></VPC>");
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"{NAMESPACE}\"><Name>{name}</Name>{}\
             <CallerReference>{name} {reference}</CallerReference>{}</CreateHostedZoneRequest>",
            vpc.unwrap_or_default(),
            private.unwrap_or_default()
        );
        let answer = self.ask("POST", "/2013-04-01/hostedzone", &body).await;
        let id = inside(&answer, "Id").unwrap_or_else(|| panic!("{answer}"));
        id.trim_start_matches("/hostedzone/").to_owned()
    }

    /// Changes record sets behind everybody's back.
    pub(super) async fn change(&self, zone: &str, changes: &str) {
        change(self.port, zone, changes).await;
    }

    /// A record set as it is now: its TTL and values.
    pub(super) async fn set(
        &self,
        zone: &str,
        name: &str,
        kind: &str,
    ) -> Option<(u32, Vec<String>)> {
        let path = format!("/2013-04-01/hostedzone/{zone}/rrset");
        let answer = self.ask("GET", &path, "").await;
        let mut sets = answer.split("<ResourceRecordSet>").skip(1);
        let set = sets.find(|set| {
            let named = inside(set, "Name").map(|it| it.replace("\\052", "*"));
            named == Some(format!("{name}.")) && inside(set, "Type").as_deref() == Some(kind)
        })?;
        let values = set.split("<ResourceRecord>").skip(1);
        let values = values.map(|it| inside(it, "Value").unwrap().replace("&quot;", "\""));
        Some((inside(set, "TTL")?.parse().unwrap(), values.collect()))
    }

    /// The values alone; none where there is no such set.
    pub(super) async fn values(&self, zone: &str, name: &str, kind: &str) -> Vec<String> {
        let set = self.set(zone, name, kind).await;
        set.map(|(_, values)| values).unwrap_or_default()
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        ask(self.port, "route53", method, path, body).await
    }

    /// A key that moto knows: its id and secret.
    pub(super) async fn key(&self) -> (String, String) {
        let iam = |query: &'static str| ask(self.port, "iam", "POST", "/", query);
        iam("Action=CreateUser&UserName=agent&Version=2010-05-08").await;
        let key = iam("Action=CreateAccessKey&UserName=agent&Version=2010-05-08").await;
        iam(
            "Action=PutUserPolicy&UserName=agent&PolicyName=all&Version=2010-05-08&PolicyDocument=\
             %7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow\
             %22%2C%22Action%22%3A%22*%22%2C%22Resource%22%3A%22*%22%7D%5D%7D",
        )
        .await;
        let part = |name| inside(&key, name).unwrap_or_else(|| panic!("{key}"));
        (part("AccessKeyId"), part("SecretAccessKey"))
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let killed = Command::new("kill")
            .args(["-s", "KILL", "--", &group])
            .status();
        drop(killed);
        for process in [&mut self.child, &mut self.watch] {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// One change of a batch.
pub(super) fn change_of(action: &str, name: &str, kind: &str, ttl: u32, values: &[&str]) -> String {
    let values: String = values
        .iter()
        .map(|value| format!("<ResourceRecord><Value>{value}</Value></ResourceRecord>"))
        .collect();
    let content = format!("<TTL>{ttl}</TTL><ResourceRecords>{values}</ResourceRecords>");
    odd_change_of(action, name, kind, &content)
}

/// As [`change_of`], of a set that is not just values.
pub(super) fn odd_change_of(action: &str, name: &str, kind: &str, content: &str) -> String {
    format!(
        "<Change><Action>{action}</Action><ResourceRecordSet><Name>{name}.</Name><Type>{kind}</Type>\
         {content}</ResourceRecordSet></Change>"
    )
}

async fn change(port: u16, zone: &str, changes: &str) {
    let body = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\"><ChangeBatch><Changes>{changes}\
         </Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    );
    let path = format!("/2013-04-01/hostedzone/{zone}/rrset");
    let answer = ask(port, "route53", "POST", &path, &body).await;
    assert!(answer.contains("ChangeInfo"), "{answer}");
}

/// Asks the program itself. Both only look at the service's name in the signature.
async fn ask(port: u16, service: &str, method: &str, path: &str, body: &str) -> String {
    let kind = match service {
        "iam" => "application/x-www-form-urlencoded",
        _ => "application/xml",
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/\
         20261126/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = carried_out(port, request.as_bytes()).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn carried_out(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    answer
}

async fn open_door(port: u16, book: Arc<Mutex<Book>>, checks_posts: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(stream, port, Arc::clone(&book), checks_posts));
        }
    });
    door
}

/// One request for each connection.
async fn pass(mut stream: TcpStream, port: u16, book: Arc<Mutex<Book>>, checks_posts: bool) {
    let Some((head, body)) = read_request(&mut stream).await else {
        return;
    };
    let mut words = head.split(' ');
    let request = Request {
        method: words.next().unwrap().to_owned(),
        path: words.next().unwrap().to_owned(),
        body: body.clone(),
    };
    let method = request.method.clone();
    let zone = request
        .path
        .split('/')
        .nth(3)
        .unwrap_or_default()
        .to_owned();
    let fault = {
        let mut book = book.lock().unwrap();
        book.requests.push(request);
        let faults = &mut book.faults;
        match faults.front() {
            Some((for_method, _)) if *for_method == method => faults.pop_front(),
            Some(_) | None => None,
        }
    };
    let fault = fault.map(|(_, fault)| fault);
    match &fault {
        Some(Fault::Answer(status, body)) => {
            let answer = format!(
                "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.ok();
            return;
        }
        Some(Fault::Meanwhile(changes)) => change(port, &zone, changes).await,
        Some(Fault::Hang | Fault::Cut) | None => {}
    }
    if checks_posts {
        // moto computes another signature than AWS for requests with a query, so only those
        // without are checked.
        let unchecked = if method == "POST" { "0" } else { "inf" };
        let request = format!(
            "POST /moto-api/reset-auth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{unchecked}",
            unchecked.len()
        );
        carried_out(port, request.as_bytes()).await;
    }
    let request = head.replacen("\r\n", "\r\nConnection: close\r\n", 1) + &body;
    let answer = carried_out(port, request.as_bytes()).await;
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Cut) => {}
        Some(Fault::Answer(..) | Fault::Meanwhile(_)) | None => {
            stream.write_all(&answer).await.ok();
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1);
            let length = length.and_then(|it| it.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((format!("{head}\r\n\r\n"), body.to_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The text of an element.
fn inside(text: &str, element: &str) -> Option<String> {
    let (_, after) = text.split_once(&format!("<{element}>"))?;
    Some(after.split('<').next()?.to_owned())
}

/// Where `make setup` puts them.
fn installed(program: &str) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = project.join("target/aws-stand-ins/bin").join(program);
    assert!(
        path.exists(),
        "{} is installed by `make setup`",
        path.display()
    );
    path
}
