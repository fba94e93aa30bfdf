"""Makes, changes and describes file trees: what tree.ts asks for and Node has no calls for.

  tree.py make DIR SEED FILES BYTES zoo|plain     the same tree for the same arguments
  tree.py change DIR SEED                         what happens to a tree between two snapshots
  tree.py describe DIR                            one JSON line per entry, in byte order of the paths

Paths are bytes throughout: a name need not be UTF-8. The zoo needs root and btrfs.
"""

import base64
import ctypes
import fcntl
import hashlib
import json
import os
import random
import shutil
import socket
import stat
import struct
import sys
from urllib.parse import quote_from_bytes

FICLONE = 0x40049409
PUNCH_HOLE_KEEP_SIZE = 0x03
KEEP_SIZE = 0x01
libc = ctypes.CDLL(None, use_errno=True)


def main(command, directory, *arguments):
    directory = os.path.abspath(os.fsencode(directory))
    if command == "make":
        seed, files, size, kind = arguments
        rng = random.Random(int(seed))
        make_files(directory, rng, int(files), int(size))
        if kind == "zoo":
            make_zoo(os.path.join(directory, b"zoo"), rng)
    elif command == "change":
        change(directory, random.Random(int(arguments[0])))
    elif command == "describe":
        for entry in describe(directory):
            print(json.dumps(entry))
    else:
        sys.exit(__doc__)


# --- make


def make_files(directory, rng, files, size):
    """Many small files, few large ones; half of each file compresses well."""
    weights = [rng.paretovariate(1.2) for _ in range(files)]
    for number, weight in enumerate(weights):
        folder = os.path.join(directory, b"folder-%02d" % (number % 17), b"sub-%d" % (number % 3))
        os.makedirs(folder, exist_ok=True)
        write(os.path.join(folder, b"file-%05d" % number), content(rng, int(size * weight / sum(weights))))


def content(rng, length):
    half = length // 2
    return rng.randbytes(half) + b"all work and no play " * ((length - half) // 21 + 1)


def write(path, data, mode=0o644):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    return path


def make_zoo(zoo, rng):
    """One of everything that btrfs send can carry."""
    os.makedirs(zoo)
    for cage in (make_links, make_attributes, make_nodes, make_layouts, make_names, make_modes_and_times):
        folder = os.path.join(zoo, cage.__name__.removeprefix("make_").encode())
        os.mkdir(folder)
        cage(folder, rng)


def make_links(folder, rng):
    one = write(folder + b"/one", rng.randbytes(10_000))
    for side in (b"left", b"right"):
        os.mkdir(folder + b"/" + side)
        for number in range(60):
            os.link(one, folder + b"/%s/%03d" % (side, number))
    targets = {b"relative": b"one", b"dangling": b"no/such", b"long": b"x/" * 2000, b"raw": b"\xff\n"}
    for name, target in targets.items():
        os.symlink(target, folder + b"/" + name)


def make_attributes(folder, rng):
    file = write(folder + b"/file", b"attributes")
    for name, value in (
        (b"user.text", b"value"),
        (b"user.empty", b""),
        (b"user.large", rng.randbytes(8000)),
        (b"user.\xfe\xff", b"name that is not UTF-8"),
        (b"trusted.secret", b"\0\1\2"),
        (b"security.test", b"x"),
    ):
        os.setxattr(file, name, value)
    os.symlink(b"file", folder + b"/symlink")
    os.setxattr(folder + b"/symlink", b"trusted.on-a-symlink", b"yes", follow_symlinks=False)
    # linux/capability.h, VFS_CAP_REVISION_2, effective: CAP_NET_BIND_SERVICE and CAP_NET_RAW.
    capable = write(folder + b"/capable", b"#!/bin/true\n", 0o755)
    os.setxattr(capable, b"security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10 | 1 << 13, 0, 0, 0))
    listed = write(folder + b"/access-list", b"")
    os.setxattr(listed, b"system.posix_acl_access", access_list((1, 6), (2, 4, 1234), (4, 4), (16, 6), (32, 0)))
    heir = folder + b"/default-list"
    os.mkdir(heir)
    os.setxattr(heir, b"system.posix_acl_default", access_list((1, 7), (4, 5), (8, 5, 4321), (16, 5), (32, 5)))
    write(heir + b"/inherits", b"")


def access_list(*entries):
    """linux/posix_acl_xattr.h: version 2, then tag, permissions, id of each entry."""
    nobody = 0xFFFFFFFF
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *(entry + (nobody,))[:3]) for entry in entries)


def make_nodes(folder, rng):
    os.mkfifo(folder + b"/fifo")
    os.mknod(folder + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder + b"/block", stat.S_IFBLK | 0o600, os.makedev(1000, 300000))
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)  # A socket's path has 107 bytes at the most.
    socket.socket(socket.AF_UNIX).bind(b"socket")
    os.chdir(here)
    os.mkdir(folder + b"/empty")


def make_layouts(folder, rng):
    original = write(folder + b"/original", rng.randbytes(1 << 20))
    write(folder + b"/inline", b"tiny")
    write(folder + b"/nothing", b"")
    reflink(original, folder + b"/clone")
    with open(reflink(original, folder + b"/clone-changed"), "r+b") as file:
        file.seek(300_000)
        file.write(rng.randbytes(50_000))
    with open(folder + b"/sparse", "wb") as file:
        file.seek(20 << 20)
        file.write(rng.randbytes(5000))
        file.truncate(64 << 20)
    with open(folder + b"/preallocated", "wb") as file:
        allocate(file, KEEP_SIZE, 0, 8 << 20)
        file.write(rng.randbytes(100_000))
    punched = write(folder + b"/punched", rng.randbytes(1 << 20))
    with open(punched, "r+b") as file:
        allocate(file, PUNCH_HOLE_KEEP_SIZE, 100_000, 500_000)
    with open(folder + b"/compressed", "wb") as file:
        os.setxattr(file.fileno(), b"btrfs.compression", b"zstd")
        file.write(b"compress me " * 50_000)


def reflink(source, target):
    with open(source, "rb") as original, open(target, "wb") as clone:
        fcntl.ioctl(clone, FICLONE, original.fileno())
    return target


def allocate(file, mode, offset, length):
    file.flush()
    if libc.fallocate(file.fileno(), mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def make_names(folder, rng):
    odd = (b"new\nline", b"\xff\xfe not UTF-8", b"n" * 255, b"-rf", b" ", b"'\"$(x)`*?")
    for name in odd + (b"back\\slash", b"\\x2f", b"%2F"):
        write(folder + b"/" + name, name)
    for name in ("Grüße", "日本語", "🎉", "\ufffd", "e\u0301"):
        write(folder + b"/" + name.encode(), b"UTF-8")
    deep = folder
    while len(deep) - len(folder) < 3000:
        deep += b"/" + b"d" * 200
    os.makedirs(deep)
    write(deep + b"/bottom", b"deep")


def make_modes_and_times(folder, rng):
    for mode in (0o000, 0o400, 0o777, 0o4755, 0o2755, 0o6711):
        write(folder + b"/mode-%04o" % mode, b"", mode)
    for mode in (0o1777, 0o2775, 0o000):
        os.mkdir(folder + b"/folder-%04o" % mode)
        os.chmod(folder + b"/folder-%04o" % mode, mode)
    owned = write(folder + b"/owned", b"")
    os.chown(owned, 4_294_967_293, 65_536)
    for nanoseconds in (-1_500_000_001, 0, 1_234_567_890_123_456_789, 13_569_465_600_000_000_001):
        path = write(folder + b"/time-%d" % nanoseconds, b"")
        os.utime(path, ns=(nanoseconds, nanoseconds))
    os.symlink(b"anywhere", folder + b"/symlink")
    os.utime(folder + b"/symlink", ns=(5, 987_654_321), follow_symlinks=False)


# --- change


def change(directory, rng):
    """Touches about every fifth file in one of many ways; everything else stays."""
    files = sorted(regular_files(directory))
    chosen = rng.sample(files, max(1, len(files) // 5))
    ways = [overwrite, append, truncate, punch, move, delete, copy, link, attribute, mode, replace]
    for number, path in enumerate(chosen):
        ways[number % len(ways)](directory, path, rng)
    write(directory + b"/new-%08x" % rng.getrandbits(32), content(rng, 200_000))


def regular_files(directory):
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                yield path


def fresh(directory, rng, what):
    return os.path.join(directory, b"%s-%08x" % (what, rng.getrandbits(32)))


def overwrite(directory, path, rng):
    with open(path, "r+b") as file:
        file.seek(rng.randrange(os.path.getsize(path) + 1))
        file.write(rng.randbytes(rng.randrange(1, 20_000)))


def append(directory, path, rng):
    with open(path, "ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 50_000)))


def truncate(directory, path, rng):
    os.truncate(path, rng.randrange(os.path.getsize(path) + 10_000))


def punch(directory, path, rng):
    length = os.path.getsize(path)
    if length > 1:
        with open(path, "r+b") as file:
            allocate(file, PUNCH_HOLE_KEEP_SIZE, length // 4, length // 2)


def move(directory, path, rng):
    os.rename(path, fresh(directory, rng, b"moved"))


def delete(directory, path, rng):
    os.unlink(path)


def copy(directory, path, rng):
    shutil.copyfile(path, fresh(directory, rng, b"copied"))


def link(directory, path, rng):
    os.link(path, fresh(directory, rng, b"linked"))


def attribute(directory, path, rng):
    os.setxattr(path, b"user.changed", rng.randbytes(20))


def mode(directory, path, rng):
    os.chmod(path, rng.randrange(0o1000))
    os.utime(path, ns=(rng.getrandbits(60), rng.getrandbits(60)))


def replace(directory, path, rng):
    os.unlink(path)
    os.mkdir(path)
    write(path + b"/inside", rng.randbytes(100))


# --- describe


def describe(directory):
    """Leaves out what a send stream does not carry: atime, ctime, birth time, inode numbers, chattr flags, the size of
    directories, nested subvolumes, and the root's mtime (an incremental receive changes it)."""
    paths = sorted(entries(directory))
    first_of_inode = {}
    for path in paths:
        status = os.lstat(path)
        relative = path[len(directory) + 1 :]
        entry = {
            "path": printable(relative),
            "mode": "%o" % status.st_mode,
            "owner": "%d:%d" % (status.st_uid, status.st_gid),
            "xattrs": attributes(path),
        }
        if relative:
            entry["mtime"] = str(status.st_mtime_ns)
        if not stat.S_ISDIR(status.st_mode):
            entry["links"] = status.st_nlink
            entry["same inode as"] = printable(first_of_inode.setdefault(status.st_ino, relative))
        if stat.S_ISREG(status.st_mode):
            entry["size"] = status.st_size
            entry["sha256"] = digest(path)
        if stat.S_ISLNK(status.st_mode):
            entry["target"] = printable(os.readlink(path))
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            entry["device"] = "%d:%d" % (os.major(status.st_rdev), os.minor(status.st_rdev))
        yield entry


def entries(directory):
    """Every path below, and the directory itself. A nested subvolume (inode 256), or the empty directory a snapshot has
    in its place (inode 2), is left out."""
    yield directory
    for folder, folders, names in os.walk(directory, onerror=complain):
        folders[:] = [name for name in folders if not is_subvolume(os.path.join(folder, name))]
        for name in folders + names:
            yield os.path.join(folder, name)


def complain(error):
    raise error


def is_subvolume(path):
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_ino in (2, 256)


def attributes(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return {
        printable(os.fsencode(name)): base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode()
        for name in names
    }


def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


def printable(path):
    return quote_from_bytes(path, safe=" !#$&'()+,/:;=@[]^{}")


if __name__ == "__main__":
    main(*sys.argv[1:])
