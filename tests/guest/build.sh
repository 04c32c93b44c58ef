#!/bin/sh
# Builds the small Linux guest that the tests and the demo boot: Debian's own
# cloud kernel, and an initramfs of busybox with a login on ttyS0, ttyS1, hvc0, on the
# screen's tty1 where the kernel writes to it, and on a virtio channel.
# It unpacks packages and installs none; it never starts a guest, needs no root,
# and refuses to leave a half-built guest behind.
#
#   usage: tests/guest/build.sh [CACHE_DIR]      (default: target/guest)
#
# Prints one line on standard output: the directory that holds `vmlinuz`,
# `initrd.img` and `cmdline`. Progress goes to standard error.
# Login: root, password "console". Beside its own the kernel's command line may have:
#   vmc.getty=LIST    terminals with a login, separated by commas, and "channel"; "none" for
#                     none
#   vmc.channel=NAME  a virtio channel that is waited for, and gets a shell
# What virtio keyboards and pointers are told is kept in /run/input: an event is 24 bytes.
set -eu
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
cache=${1:-$here/../../target/guest}

say() { echo "guest: $*" >&2; }
die() { say "$*"; exit 1; }

missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need apt-get apt
need dpkg dpkg
need cpio cpio
need flock util-linux
need xz xz-utils
need sha256sum coreutils
need setpriv util-linux
[ -z "$missing" ] || die "missing:$missing; install with: sudo apt-get install$missing"

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
# Root builds as the cache's owner, who could not remove what is root's.
owner=$(stat -c %u "$cache")
if [ "$(id -u)" -eq 0 ] && [ "$owner" -ne 0 ]; then
	exec env HOME="$cache" setpriv --reuid="$owner" --regid="$(stat -c %g "$cache")" \
		--clear-groups -- "$here/build.sh" "$cache"
fi
# For the same reason this is made here: the tests, which run as root, keep in it what they
# have learnt.
mkdir -p "$cache/libvirt-capabilities"
exec 9>"$cache/lock"
flock 9

recipe=$(sha256sum <"$0" | cut -c1-12)

# A stamp that is newer than apt's package lists cannot name an old kernel, so
# the second call asks apt nothing.
current=$cache/current
if [ -n "$(find "$current/stamp" -newer /var/lib/apt/lists 2>/dev/null)" ] &&
	[ "$(head -n 1 "$current/stamp")" = "$recipe" ]; then
	readlink -f "$current"
	exit 0
fi

candidate() { apt-cache policy "$1" | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p'; }
unknown() { die "apt knows no $1; refresh its lists with: sudo apt-get update"; }

meta=linux-image-cloud-amd64
package=$(apt-cache depends --no-recommends --no-suggests "$meta" 2>/dev/null |
	sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
[ -n "$package" ] || unknown "$meta"
version=$(candidate "$package")
# Unpacked, not installed: Debian installs it only in place of the busybox it comes with.
busybox_version=$(candidate busybox-static)
[ -n "$busybox_version" ] || unknown busybox-static
key=$recipe-$(echo "$package-$version-$busybox_version" | tr -c 'A-Za-z0-9.\n' '_')
out=$cache/$key

publish() {
	ln -sfn "$key" "$cache/current.new"
	mv -T "$cache/current.new" "$current"
	# A run that is still going may boot an older guest: those of the last day stay.
	find "$cache" -mindepth 1 -maxdepth 1 -type d ! -name "$key" -mtime +0 \
		\( -name '*-linux_image_*' -o -name 'building.*' \) -exec rm -rf {} +
	echo "$out"
}

if [ -e "$out/stamp" ]; then
	touch "$out/stamp"
	publish
	exit 0
fi

work=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

say "downloading $package $version and busybox-static $busybox_version"
(
	cd "$work"
	apt-get -o APT::Sandbox::User= download "$package=$version" \
		"busybox-static=$busybox_version" >apt.log 2>&1 || { cat apt.log >&2; exit 1; }
) || die "apt could not download them; refresh its lists with: sudo apt-get update"
dpkg -x "$work"/linux-image-*.deb "$work/kernel"
dpkg -x "$work"/busybox-static_*.deb "$work/busybox"
# Where Debian has merged /usr, packages moved their programs there.
busybox=$work/busybox/bin/busybox
[ -x "$busybox" ] || busybox=$work/busybox/usr/bin/busybox
kernel=$(basename "$work"/kernel/boot/vmlinuz-*)
kernel=${kernel#vmlinuz-}
[ -d "$work/kernel/usr/lib/modules/$kernel" ] &&
	modules=$work/kernel/usr/lib/modules/$kernel || modules=$work/kernel/lib/modules/$kernel

root=$work/root
mkdir -p "$root/bin" "$root/sbin" "$root/usr/bin" "$root/usr/sbin" "$root/etc/init.d" \
	"$root/etc/acpi/PWRF" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/run" \
	"$root/root" "$root/var/log" "$root/lib/modules"
cp "$busybox" "$root/bin/busybox"
chmod 0755 "$root/bin/busybox"

# In load order: each needs those before it. A later kernel may have some built in.
: >"$root/lib/modules/order"
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci \
	virtio_console button evdev virtio_input; do
	file=$(find "$modules" -name "$name.ko" -o -name "$name.ko.xz" | head -n 1)
	case $file in
	*.ko.xz) xz -dc "$file" >"$root/lib/modules/$name.ko" ;;
	*.ko) cp "$file" "$root/lib/modules/$name.ko" ;;
	*)
		grep -q "/$name\.ko$" "$modules/modules.builtin" ||
			die "$package has no module $name: mend the list in $0"
		continue
		;;
	esac
	echo "$name" >>"$root/lib/modules/order"
done

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s
exec </dev/console >/dev/console 2>&1
# init reads its table once, before anything that the table names: what the guest has is
# found out first.
/etc/init.d/rcS
exec /sbin/init
INIT

# init resets the terminal settings of the device in the first field: for acpid
# that must not be the console, where getty has just set its own.
cat >"$root/etc/inittab" <<'INITTAB'
ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100
ttyS1::respawn:/sbin/getty -L 115200 ttyS1 vt100
hvc0::respawn:/sbin/getty -L 115200 hvc0 vt100
tty1::respawn:/sbin/getty 38400 tty1 linux
null::respawn:/sbin/acpid -d
::ctrlaltdel:/sbin/reboot
::restart:/sbin/init
INITTAB

cat >"$root/etc/init.d/rcS" <<'RCS'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
hostname guest
while read -r module; do
	insmod "/lib/modules/$module.ko" || echo "guest: $module did not load"
done </lib/modules/order
argument() {
	for word in $(cat /proc/cmdline); do
		case $word in "$1"=*) echo "${word#*=}" ;; esac
	done
}
channel=$(argument vmc.channel)
port() { grep -lxF "$channel" /sys/class/virtio-ports/*/name 2>/dev/null | cut -d / -f 5; }
# A console or channel (device type 3) appears a moment after its driver, consoles first.
if grep -q 0x0003 /sys/bus/virtio/devices/*/device 2>/dev/null; then
	tries=100
	while [ "$tries" -gt 0 ]; do
		if [ -n "$channel" ]; then [ -z "$(port)" ] || break; else [ ! -c /dev/hvc0 ] || break; fi
		usleep 50000
		tries=$((tries - 1))
	done
fi
# Where a guest has no such device, init would restart its getty for ever.
[ -c /dev/hvc0 ] || sed -i /^hvc0:/d /etc/inittab
[ "$(cat /sys/class/tty/ttyS1/type)" != 0 ] || sed -i /^ttyS1:/d /etc/inittab
grep -q console=tty0 /proc/cmdline || sed -i /^tty1:/d /etc/inittab
wanted=$(argument vmc.getty)
if [ -n "$wanted" ]; then
	for line in ttyS0 ttyS1 hvc0 tty1; do
		case ,$wanted, in *",$line,"*) ;; *) sed -i "/^$line:/d" /etc/inittab ;; esac
	done
fi
case ,$wanted, in ,, | *,channel,*) ;; *) channel= ;; esac
[ -z "$channel" ] || echo "null::respawn:/sbin/channel-login $(port)" >>/etc/inittab
for name in /sys/class/input/event*/device/name; do
	case $(cat "$name" 2>/dev/null) in
	*[Vv]irtio*)
		event=${name#/sys/class/input/}
		cat "/dev/input/${event%%/*}" >>/run/input &
		;;
	esac
done
# From here on the console is the login's alone: kernel lines stay in dmesg.
dmesg -n 1
RCS

cat >"$root/etc/acpi/PWRF/00000080" <<'POWER'
#!/bin/sh
exec poweroff
POWER

# A channel is no terminal: no echo, no line editing, no carriage returns. Writing waits
# until the host has connected; when it has gone, reading ends.
cat >"$root/sbin/channel-login" <<'CHANNEL'
#!/bin/sh
exec <>"/dev/$1" >&0 2>&0
printf '%s login: ' "$(hostname)"
read -r user
printf 'Password: '
read -r password
[ "$user:$password" = root:console ] || exit 1
cd /root
PATH=/sbin:/usr/sbin:/bin:/usr/bin PS1='root@guest:\w# ' exec sh -i
CHANNEL

# A wide terminal: the shell's echo of a long line stays in one piece.
cat >"$root/etc/profile" <<'PROFILE'
export PATH=/sbin:/usr/sbin:/bin:/usr/bin
export PS1='root@guest:\w# '
stty rows 24 cols 200
PROFILE

password=$("$busybox" mkpasswd -m md5 -S vmconsol console)
echo "root:x:0:0:root:/root:/bin/sh" >"$root/etc/passwd"
echo "root:x:0:" >"$root/etc/group"
echo "root:$password:19000:0:99999:7:::" >"$root/etc/shadow"
chmod 0600 "$root/etc/shadow"
echo guest >"$root/etc/hostname"
echo 'vmconsole test guest on \l' >"$root/etc/issue"
chmod 0755 "$root/init" "$root/sbin/channel-login" "$root/etc/init.d/rcS" "$root/etc/acpi/PWRF/00000080"

result=$work/result
mkdir "$result"
cp "$work/kernel/boot/vmlinuz-$kernel" "$result/vmlinuz"
(cd "$root" && find . -print0 | sort -z |
	cpio --quiet --null --create --format=newc --owner=0:0 >"$result/initrd.img")
echo "console=ttyS0,115200 panic=-1 random.trust_cpu=on" >"$result/cmdline"
chmod 0755 "$result"
chmod 0644 "$result"/*
printf '%s\n%s %s\n' "$recipe" "$package" "$version" >"$result/stamp"
rm -rf "$out"
mv -T "$result" "$out"
say "built $kernel in $out"
publish
