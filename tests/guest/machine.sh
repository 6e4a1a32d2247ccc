# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# machine.sh - what the programs that boot a Debian kernel in an emulator share: the kernel, the machine's root, the
# emulator. Sourced, with the repository as working directory. It installs nothing, and needs no KVM.
#
#   PINFS_BUILD      where our programs are (build)
#   PINFS_GUEST_DIR  kernels, logs, and scratch (${TMPDIR:-/tmp}/pinfs-guest)
#
# Memory above 4 GiB begins at 4 GiB on this machine; `memmap=SIZE!START` makes pieces of it persistent.

build=$(cd "${PINFS_BUILD:-build}" && pwd)
top=${PINFS_GUEST_DIR:-${TMPDIR:-/tmp}/pinfs-guest}
PATH=$PATH:/usr/sbin:/sbin
scratch=
emulator=

machine_end()
{
	[ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true
	[ -z "$scratch" ] || rm -rf --one-file-system "$scratch"
}

# PROGRAM:PACKAGE, or FILE:PACKAGE, ... beside what every machine needs: ends with 77, and what to install.
machine_needs()
{
	missing=
	# shellcheck disable=SC2086
	for need in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio depmod:kmod xz:xz-utils \
		apt-get:apt "$@"; do
		case $need in
		/*) ls ${need%%:*} >/dev/null 2>&1 || missing="$missing ${need##*:}" ;;
		*) command -v "${need%%:*}" >/dev/null || missing="$missing ${need##*:}" ;;
		esac
	done
	if [ -n "$missing" ]; then
		echo "missing: apt-get install$missing" >&2
		exit 77
	fi
	mkdir -p "$top/deb"
	trap machine_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	scratch=$(mktemp -d "$top/run.XXXXXX")
}

# The kernel $1, "6.1", "6.12" or a package, "" for what linux-image-amd64 stands for, downloaded and unpacked once:
# $kver is its release, $tree where it is.
machine_kernel()
{
	case $1 in
	'') pkg=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { print $2; exit }') ;;
	linux-image-*) pkg=$1 ;;
	*) pkg=$(apt-cache pkgnames "linux-image-$1." | grep -xE "linux-image-[0-9.]+([-+][0-9a-z+~]+)*-amd64" |
		grep -vE -- '-(rt|cloud|16k)-amd64$' | sort -V | tail -n 1) ;;
	esac
	[ -n "$pkg" ] || { echo "no package of kernel ${1:-linux-image-amd64} is known: apt-get update?" >&2; return 77; }
	kver=${pkg#linux-image-}
	tree=$top/$pkg
	[ ! -f "$tree/.ready" ] || return 0
	rm -rf --one-file-system "$tree"
	mkdir -p "$tree"
	(cd "$top/deb" && { ls "$pkg"_*.deb >/dev/null 2>&1 || apt-get -qq download "$pkg" 2>/dev/null; }) ||
		{ echo "apt-get download $pkg failed: apt-get update?" >&2; return 77; }
	dpkg -x "$top/deb/$pkg"_*.deb "$tree"
	rm -f "$top/deb/$pkg"_*.deb
	depmod -b "$tree" "$kver"
	touch "$tree/.ready"
}

# A root with nothing but busybox on it: $root.
machine_root()
{
	root=$scratch/root
	rm -rf --one-file-system "$root"
	mkdir -p "$root/bin" "$root/sbin" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/mnt" \
		"$root/lib/modules/$kver"
	cp "$(command -v busybox)" "$root/bin/busybox"
	ln -s /bin/busybox "$root/sbin/modprobe"
	[ ! -f /etc/mke2fs.conf ] || cp /etc/mke2fs.conf "$root/etc/"
	printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
}

# Programs and libraries into /bin, or the place that they have here, each with the libraries that it is linked with, these
# where they are here.
machine_libraries()
{
	for file in "$@"; do
		ldd "$file" 2>/dev/null | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | while read -r lib; do
			[ -e "$root$lib" ] || { mkdir -p "$root$(dirname "$lib")"; cp -L "$lib" "$root$lib"; }
		done
	done
}
machine_files()
{
	cp -L "$@" "$root/bin/"
	machine_libraries "$@"
}
machine_same()
{
	for file in "$@"; do
		mkdir -p "$root$(dirname "$file")"
		cp -L "$file" "$root$file"
	done
	machine_libraries "$@"
}
machine_programs()
{
	for prog in "$@"; do machine_files "$(command -v "$prog")"; done
}
machine_ours()
{
	for prog in "$@"; do machine_files "$build/$prog"; done
}

# Kernel modules, each with all that it needs. modprobe's own list would leave out what the running kernel has built in.
machine_modules()
{
	for m in "$@"; do
		awk -F '[: ]+' -v m="$m" '{
			name = $1
			gsub(/.*\/|\.ko.*/, "", name)
			gsub(/-/, "_", name)
			if (name == m)
				for (i = 1; i <= NF; i++)
					if ($i != "")
						print $i
		}' "$tree/lib/modules/$kver/modules.dep"
	done | sort -u | while read -r rel; do
		mkdir -p "$root/lib/modules/$kver/$(dirname "$rel")"
		cp "$tree/lib/modules/$kver/$rel" "$root/lib/modules/$kver/$rel"
	done
	find "$root/lib/modules" -name '*.ko.xz' -exec xz -d {} +
	cp "$tree/lib/modules/$kver"/modules.builtin* "$tree/lib/modules/$kver/modules.order" "$root/lib/modules/$kver/"
	depmod -b "$root" "$kver"
}

# machine_boot LIMIT MEMORY "KERNEL ARGUMENTS" [qemu's]...: to the end of the machine, at most LIMIT seconds; what it says goes to
# standard output. LIMIT "shell": in the foreground, the serial console on the terminal. The first program is $root/init.
machine_boot()
{
	(cd "$root" && find . -print0 | cpio --null -o -H newc --quiet | gzip -1) >"$scratch/initramfs.gz"
	# no_timer_check: on a busy machine the timer may seem not to work.
	limit=$1 size=$2 words=$3 serial='-display none -monitor none -serial stdio'
	[ "$1" != shell ] || serial=-nographic
	shift 3
	# shellcheck disable=SC2086
	set -- qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m "$size" -no-reboot -nic none \
		-kernel "$tree/boot/vmlinuz-$kver" -initrd "$scratch/initramfs.gz" $serial \
		-append "console=ttyS0 panic=-1 quiet loglevel=3 mitigations=off nokaslr no_timer_check $words" "$@"
	if [ "$limit" = shell ]; then
		"$@"
		return
	fi
	timeout -k 10 "$limit" "$@" </dev/null &
	emulator=$!
	wait "$emulator" || true
	emulator=
}
