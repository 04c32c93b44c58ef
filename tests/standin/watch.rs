//! Who watches consoles goes on where it was, or is told that it cannot.

use tokio::time::timeout;
use tonic::Streaming;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::View;
use vmconsole_proto::v1::watch_consoles_response::Event;
use vmconsole_tests::client::{Client, Windows, open};
use vmconsole_tests::scrape::Scrape;
use vmconsole_tests::standin::{Mode, StandinHost, vm_uuid};

use super::{SOON, host, settled};

const CONSOLES: [(&str, Mode); 2] = [("one", Mode::Idle), ("two", Mode::Idle)];

struct Watch(Streaming<v1::WatchConsolesResponse>);

impl Watch {
    async fn after(client: &Client, version: &str, vms: &[&str]) -> Self {
        let filter = v1::ConsoleFilter {
            vms: vms.iter().map(|&vm| vm.to_owned()).collect(),
            ..Default::default()
        };
        let request = v1::WatchConsolesRequest {
            filter: Some(filter),
            after_version: version.to_owned(),
        };
        let watch = client.service().watch_consoles(request).await;
        Self(watch.unwrap().into_inner())
    }

    async fn next(&mut self) -> (Event, String) {
        let told = timeout(SOON, self.0.message()).await.unwrap();
        let told = told.unwrap().unwrap();
        (told.event.unwrap(), told.version)
    }

    /// What is told up to and with `synced`, in short, and the version then.
    async fn until_synced(&mut self) -> (Vec<String>, String) {
        let mut all = Vec::new();
        loop {
            let (event, version) = self.next().await;
            all.push(short(&event));
            if matches!(event, Event::Synced(_)) {
                return (all, version);
            }
        }
    }

    /// Waits until this is told, and gives the version then.
    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> String {
        loop {
            let (event, version) = self.next().await;
            if wanted(&event) {
                return version;
            }
        }
    }
}

fn short(event: &Event) -> String {
    match event {
        Event::Changed(console) => format!("changed {}", console.vm_name),
        Event::Removed(removed) => format!("removed {}", removed.vm_uuid),
        Event::Synced(_) => "synced".to_owned(),
        Event::Reset(_) => "reset".to_owned(),
    }
}

fn viewed(event: &Event, vm: &str) -> bool {
    matches!(event, Event::Changed(console) if console.vm_name == vm && console.viewers == 1)
}

/// Until nothing about the consoles changes any more by itself.
async fn attached(host: &StandinHost) -> Client {
    let client = host.connect(Windows::default()).await;
    for (name, _) in CONSOLES {
        client
            .attach(open(name, View))
            .await
            .unwrap()
            .detach(SOON)
            .await;
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_hears_only_what_changed_while_it_was_away() {
    let host = host(&CONSOLES, "");
    let test = async {
        let client = attached(&host).await;
        let mut watch = Watch::after(&client, "", &[]).await;
        for name in ["one", "two"] {
            let (event, version) = watch.next().await;
            let all = (short(&event), version);
            assert_eq!(all, (format!("changed {name}"), String::new()));
        }
        let (synced, version) = watch.next().await;
        assert_eq!(short(&synced), "synced");
        assert!(!version.is_empty() && version.len() <= 64, "{version:?}");
        drop(watch);

        let viewer = client.attach(open("two", View)).await.unwrap();
        let mut watch = Watch::after(&client, &version, &[]).await;
        let mut news = watch.until_synced().await;
        assert!(
            news.0
                .iter()
                .all(|told| told != "changed one" && told != "reset"),
            "{news:?}"
        );
        if !news.0.contains(&"changed two".to_owned()) {
            news.1 = watch.until(|event| viewed(event, "two")).await;
        }
        // Every message carries a version to go on after.
        let mut watch = Watch::after(&client, &news.1, &[]).await;
        viewer.detach(SOON).await;
        let left = watch.until(|event| {
            matches!(event, Event::Changed(console) if console.vm_name == "two" && console.viewers == 0)
        });
        let version = left.await;
        let mut watch = Watch::after(&client, &version, &[]).await;
        assert_eq!(
            watch.until_synced().await,
            (vec!["synced".to_owned()], version)
        );
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_from_another_agent_is_told_to_begin_anew() {
    let (former, host) = (host(&CONSOLES, ""), host(&CONSOLES, ""));
    let test = async {
        let client = attached(&former).await;
        let mut watch = Watch::after(&client, "", &[]).await;
        let (_, foreign) = watch.until_synced().await;
        let client = attached(&host).await;
        let expected = ["reset", "changed one", "changed two", "synced"];
        for version in [foreign.as_str(), "nonsense"] {
            let mut watch = Watch::after(&client, version, &[]).await;
            assert_eq!(watch.until_synced().await.0, expected, "{version}");
        }
        let scrape = Scrape::take(host.http).await.unwrap();
        let resets = scrape.sum("vmconsole_watch_resets_total", "reason=\"unknown\"");
        assert_eq!(resets, 2.0);
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_outside_the_filter_is_told_as_removed() {
    let host = host(&CONSOLES, "");
    let test = async {
        let client = attached(&host).await;
        let mut watch = Watch::after(&client, "", &["one"]).await;
        let (first, version) = watch.until_synced().await;
        assert_eq!(first, ["changed one", "synced"]);
        let _viewer = client.attach(open("two", View)).await.unwrap();
        let uuid = vm_uuid(1).to_string();
        let outside = |event: &Event| matches!(event, Event::Removed(it) if it.vm_uuid == uuid);
        watch.until(outside).await;
        let mut again = Watch::after(&client, &version, &["one"]).await;
        again.until(outside).await;
    };
    settled(&host, test).await;
}
