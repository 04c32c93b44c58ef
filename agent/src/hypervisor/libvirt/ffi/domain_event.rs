//! What happens to domains, as libvirt tells it: that something happened, and to which.
//! What a domain is like afterwards is for the listener to read.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use uuid::Uuid;

use super::domain::{id_of, uuid_of};
use super::error::LibvirtError;
use super::registry::{Key, Registry};

/// What happened to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DomainEventKind {
    /// It was defined, undefined, started, suspended, resumed, stopped, shut down or crashed.
    Lifecycle,
    /// It stopped here since it went on to another host.
    Moved,
    /// It was reset, from inside or outside. A reset gives two of these.
    Reboot,
    /// A device was added to it.
    DeviceAdded,
    /// A device was removed from it.
    DeviceRemoved,
}

/// Something happened to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DomainEvent {
    /// To which.
    pub(crate) uuid: Uuid,
    /// What.
    pub(crate) kind: DomainEventKind,
    /// The id that the domain had then, if it ran: that of its run.
    pub(crate) id: Option<u32>,
}

pub(super) type OnEvent = dyn Fn(DomainEvent) + Send + Sync;
static ON_EVENT: Registry<OnEvent> = Registry::new();

/// The registrations that serve one listener.
pub(super) struct Subscription {
    key: Key,
    ids: Vec<c_int>,
}

impl Subscription {
    /// Ends it. May block.
    ///
    /// # Safety
    /// `connection` must be the live connection that it was made on.
    pub(super) unsafe fn cancel(&self, connection: virt_sys::virConnectPtr) {
        for id in &self.ids {
            // SAFETY: the caller vouches for the connection; a failure leaves a registration
            // behind whose number stands for nothing.
            unsafe { virt_sys::virConnectDomainEventDeregisterAny(connection, *id) };
        }
        ON_EVENT.remove(self.key);
    }
}

/// Tells the listener that `opaque` stands for.
///
/// # Safety
/// `domain` must be null or a live domain.
unsafe fn tell(domain: virt_sys::virDomainPtr, kind: DomainEventKind, opaque: *mut c_void) {
    // SAFETY: the caller vouches for the domain.
    let Some(uuid) = (unsafe { uuid_of(domain) }) else {
        return;
    };
    // SAFETY: as above.
    let id = unsafe { id_of(domain) };
    ON_EVENT.with(opaque, |on_event| on_event(DomainEvent { uuid, kind, id }));
}

unsafe extern "C" fn lifecycle(
    _: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let is = |number: c_int, name: u32| u32::try_from(number) == Ok(name);
    let moved = is(event, virt_sys::VIR_DOMAIN_EVENT_STOPPED)
        && is(detail, virt_sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED);
    let kind = if moved {
        DomainEventKind::Moved
    } else {
        DomainEventKind::Lifecycle
    };
    // SAFETY: libvirt keeps the domain alive through the callback.
    unsafe { tell(domain, kind, opaque) };
    0
}

unsafe extern "C" fn reboot(
    _: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt keeps the domain alive through the callback.
    unsafe { tell(domain, DomainEventKind::Reboot, opaque) };
}

unsafe extern "C" fn device_added(
    _: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    _alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt keeps the domain alive through the callback.
    unsafe { tell(domain, DomainEventKind::DeviceAdded, opaque) };
}

unsafe extern "C" fn device_removed(
    _: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    _alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt keeps the domain alive through the callback.
    unsafe { tell(domain, DomainEventKind::DeviceRemoved, opaque) };
}

type Generic = unsafe extern "C" fn(virt_sys::virConnectPtr, virt_sys::virDomainPtr, *mut c_void);
type Lifecycle = unsafe extern "C" fn(
    virt_sys::virConnectPtr,
    virt_sys::virDomainPtr,
    c_int,
    c_int,
    *mut c_void,
) -> c_int;
type Device = unsafe extern "C" fn(
    virt_sys::virConnectPtr,
    virt_sys::virDomainPtr,
    *const c_char,
    *mut c_void,
);

/// Registers `on_event` for every kind of event. May block.
pub(super) fn subscribe(
    connection: virt_sys::virConnectPtr,
    on_event: Arc<OnEvent>,
) -> Result<Subscription, LibvirtError> {
    // SAFETY: libvirt takes every callback as the generic type and calls it with the arguments
    // of its event's own (its VIR_DOMAIN_EVENT_CALLBACK does this cast). These are the types
    // of the events that they are registered for below.
    let (lifecycle, device_added, device_removed) = unsafe {
        (
            std::mem::transmute::<Lifecycle, Generic>(lifecycle),
            std::mem::transmute::<Device, Generic>(device_added),
            std::mem::transmute::<Device, Generic>(device_removed),
        )
    };
    let wanted = [
        (virt_sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
        (virt_sys::VIR_DOMAIN_EVENT_ID_REBOOT, reboot as Generic),
        (virt_sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, device_added),
        (virt_sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, device_removed),
    ];
    let mut subscription = Subscription {
        key: ON_EVENT.insert(on_event),
        ids: Vec::new(),
    };
    for (event, callback) in wanted {
        // SAFETY: the caller's connection is alive; null means every domain; the callbacks
        // treat their opaque argument as a number.
        let id = unsafe {
            virt_sys::virConnectDomainEventRegisterAny(
                connection,
                std::ptr::null_mut(),
                event as c_int,
                Some(callback),
                subscription.key.opaque(),
                None,
            )
        };
        if id < 0 {
            let error = LibvirtError::last();
            // SAFETY: the connection is alive.
            unsafe { subscription.cancel(connection) };
            return Err(error);
        }
        subscription.ids.push(id);
    }
    Ok(subscription)
}
