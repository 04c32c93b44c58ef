//! Side effects are told to everybody who is attached, once and in order.

use super::*;

fn effect(kind: SideEffectKind, number: u64) -> SideEffect {
    SideEffect {
        kind,
        proxy: PeerIdentity::new("spiffe://test/operator"),
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(number),
    }
}

fn told(viewer: &mut Viewer, room: Room) -> Vec<SideEffect> {
    let mut told = Vec::new();
    while let Some(item) = viewer.poll(room) {
        if let Item::Effect(effect) = item {
            told.push(effect);
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn each_viewer_is_told_of_each_side_effect_from_its_coming_on() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let mut first = console.join(request(None)).expect("joins");
    told(&mut first, Room::ALL);
    let (keys, nmi) = (
        effect(SideEffectKind::Keys, 1),
        effect(SideEffectKind::Nmi, 2),
    );
    console.announce(keys.clone());
    timeout(BOUND, first.changed()).await.expect("it is woken");
    let mut second = console.join(request(None)).expect("joins");
    console.announce(nmi.clone());
    assert_eq!(told(&mut first, Room::ALL), [keys, nmi.clone()]);
    assert_eq!(told(&mut second, Room::ALL), [nmi]);
    assert_eq!(told(&mut first, Room::ALL), []);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_without_room_for_state_is_told_the_newest_when_it_has() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    let no_state = Room {
        state: false,
        ..Room::ALL
    };
    for number in 0..100 {
        console.announce(effect(SideEffectKind::Screenshot, number));
        assert_eq!(told(&mut viewer, no_state), []);
    }
    let told = told(&mut viewer, Room::ALL);
    let expected: Vec<_> = (84..100)
        .map(|number| effect(SideEffectKind::Screenshot, number))
        .collect();
    assert_eq!(told, expected);
}
