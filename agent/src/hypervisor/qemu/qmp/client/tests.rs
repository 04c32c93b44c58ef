//! A client and peers that no QEMU would be, over a pair of sockets.

use std::os::fd::AsFd;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::super::command::{InjectNmi, Name, QueryName};
use super::super::frames::MAX_MESSAGE_BYTES;
use super::super::message::RefusalClass;
use super::super::pace::MAX_MESSAGES;
use super::*;

const GREETING: &[u8] = br#"{"QMP": {"version": {}, "capabilities": []}}"#;
const LIMIT: Duration = Duration::from_secs(10);
/// Longer than any limit.
const SOON: Duration = Duration::from_secs(60);

/// The peer's side.
struct Far {
    stream: BufReader<UnixStream>,
}

impl Far {
    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .get_mut()
            .write_all(bytes.as_ref())
            .await
            .unwrap();
    }

    /// The next command's name and number.
    async fn hear(&mut self) -> (String, u64) {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        let command: serde_json::Value = serde_json::from_str(&line).unwrap();
        let name = command["execute"].as_str().unwrap().to_owned();
        (name, command["id"].as_u64().unwrap())
    }
}

fn pair() -> (UnixStream, Far) {
    let (near, far) = UnixStream::pair().unwrap();
    let stream = BufReader::new(far);
    (near, Far { stream })
}

async fn greet(near: UnixStream) -> Result<Client, ClientError> {
    Client::greet(near, LIMIT, LIMIT, Arc::default()).await
}

async fn greeted() -> (Client, Far) {
    let (near, mut far) = pair();
    let answer = async {
        far.say(GREETING).await;
        let (name, id) = far.hear().await;
        assert_eq!(name, "qmp_capabilities");
        far.say(format!(r#"{{"return": {{}}, "id": {id}}}"#)).await;
    };
    let (client, ()) = tokio::join!(greet(near), answer);
    (client.unwrap(), far)
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("in time")
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_given_up() {
    let (near, _far) = pair();
    let silent = within(greet(near)).await;
    assert!(matches!(silent, Err(ClientError::NoGreeting)), "{silent:?}");
}

#[tokio::test]
async fn peers_that_do_not_speak_qmp_are_given_up() {
    for nonsense in [
        "SSH-2.0-OpenSSH\r\n",
        "{\"return\": {}}",
        "{\"event\": \"STOP\"}",
        "{\"QMP\": {]}",
        "[]",
        "{\"QMP\": 1} {\"QMP\": 1}",
    ] {
        let (near, mut far) = pair();
        far.say(nonsense).await;
        let refused = within(greet(near)).await;
        assert!(refused.is_err_and(|error| error.is_breach()), "{nonsense}");
    }
}

#[tokio::test]
async fn a_message_without_end_is_not_kept() {
    let (near, mut far) = pair();
    let flood = async {
        far.say("{\"QMP\": \"").await;
        let some = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        // The client closes when it has had enough.
        while far.stream.get_mut().write_all(&some).await.is_ok() {
            sent += some.len();
        }
        sent
    };
    let (refused, sent) = within(async { tokio::join!(greet(near), flood) }).await;
    let error = refused.expect_err("too long");
    assert!(
        matches!(error, ClientError::Frame(FrameError::TooLong)),
        "{error:?}"
    );
    assert!(sent < 2 * MAX_MESSAGE_BYTES, "{sent}");
}

#[tokio::test]
async fn an_answer_is_found_among_events_and_answers_to_nobody() {
    let (mut client, mut far) = greeted().await;
    let answer = async {
        let (name, id) = far.hear().await;
        assert_eq!(name, "query-name");
        far.say(r#"{"event": "STOP", "timestamp": {}}"#).await;
        far.say(r#"{"return": {"name": "wrong"}, "id": 99}"#).await;
        far.say(r#"{"return": {"name": "wrong"}}"#).await;
        far.say(r#"{"error": {"class": "x", "desc": "y"}, "id": 0}"#)
            .await;
        far.say(format!(r#"{{"return": {{"name": "right"}}, "id": {id}}}"#))
            .await;
    };
    let (Name { name }, ()) = within(async {
        let (name, ()) = tokio::join!(client.execute(&QueryName {}), answer);
        (name.unwrap(), ())
    })
    .await;
    assert_eq!(name.as_deref(), Some("right"));
    within(client.news()).await.unwrap();
}

#[tokio::test]
async fn answers_of_another_shape_and_refusals_are_told_apart() {
    let (mut client, mut far) = greeted().await;
    let refuse = async {
        let (_, id) = far.hear().await;
        let error = r#""error": {"class": "CommandNotFound", "desc": "no"}"#;
        far.say(format!(r#"{{{error}, "id": {id}}}"#)).await;
        let (_, id) = far.hear().await;
        far.say(format!(r#"{{"return": {{"name": 7}}, "id": {id}}}"#))
            .await;
    };
    let ask = async {
        let refused = client.execute(&InjectNmi {}).await;
        let Err(ClientError::Refused { command, refusal }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(
            (command, refusal.class),
            ("inject-nmi", RefusalClass::CommandNotFound)
        );
        let misshapen = client.execute(&QueryName {}).await;
        assert!(misshapen.is_err_and(|error| error.is_breach()));
    };
    within(async { tokio::join!(ask, refuse) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_news() {
    let (mut client, mut far) = greeted().await;
    let silent = within(client.execute(&QueryName {})).await.map(|_| ());
    assert!(
        matches!(silent, Err(ClientError::Silent { .. })),
        "{silent:?}"
    );
    let (_, id) = far.hear().await;
    far.say(r#"{"return": {}, "id": 1234}"#).await;
    far.say(format!(r#"{{"return": {{}}, "id": {id}}}"#)).await;
    within(client.news()).await.unwrap();
    far.say(r#"{"return": {}, "id": 1234}"#).await;
    timeout(SOON, client.news())
        .await
        .expect_err("nobody asked for it");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up() {
    let (mut client, _far) = greeted().await;
    let mut last = None;
    for _ in 0..100_000 {
        match client
            .execute_within(Duration::from_millis(1), &QueryName {}, None)
            .await
        {
            Err(ClientError::Silent { .. }) => {}
            other => {
                last = Some(other.map(|_| ()));
                break;
            }
        }
    }
    assert!(matches!(last, Some(Err(ClientError::Unread))), "{last:?}");
    assert!(client.outbound.len() <= MAX_OUTBOUND);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_is_read_at_a_pace() {
    let (mut client, mut far) = greeted().await;
    let flood = async {
        for _ in 0..3 * MAX_MESSAGES {
            far.say(r#"{"event": "BLOCK_IO_ERROR", "data": {}}"#).await;
        }
        far.say(r#"{"event": "STOP"}"#).await;
    };
    let before = Instant::now();
    let (news, ()) = within(async { tokio::join!(client.news(), flood) }).await;
    news.unwrap();
    assert!(
        before.elapsed() >= Duration::from_secs(2),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn a_descriptor_goes_with_its_command() {
    use std::io::IoSliceMut;
    use std::os::fd::RawFd;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    let (mut client, mut far) = greeted().await;
    let memory = tempfile::tempfile().unwrap();
    let hear = async {
        let stream = far.stream.get_ref();
        stream.readable().await.unwrap();
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let mut buffer = [0; 512];
        let received = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::empty();
            let message =
                recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
            let fds = message.cmsgs().unwrap().map(|it| match it {
                ControlMessageOwned::ScmRights(fds) => fds.len(),
                other => panic!("{other:?}"),
            });
            (message.bytes, fds.sum::<usize>())
        };
        assert!(buffer[..received.0].starts_with(br#"{"execute":"inject-nmi""#));
        far.say(r#"{"return": {}, "id": 1}"#).await;
        received.1
    };
    let ask = client.execute_with_fd(&InjectNmi {}, memory.as_fd());
    let (done, fds) = within(async { tokio::join!(ask, hear) }).await;
    done.unwrap();
    assert_eq!(fds, 1);
}

#[tokio::test]
async fn an_end_is_told() {
    let (mut client, far) = greeted().await;
    drop(far);
    let closed = within(client.news()).await;
    assert!(matches!(closed, Err(ClientError::Closed)), "{closed:?}");
    let (near, mut far) = pair();
    far.say(&GREETING[..10]).await;
    far.stream.get_mut().shutdown().await.unwrap();
    let closed = within(greet(near)).await;
    assert!(matches!(closed, Err(ClientError::Closed)), "{closed:?}");
    let mut rest = Vec::new();
    far.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "nothing is said to who has not greeted");
}
