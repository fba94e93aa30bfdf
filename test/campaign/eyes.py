"""What a campaign sees with eyes of its own: neither the program's addon, nor the store's API. One JSON request per line on
stdin, one JSON answer per line on stdout.

  {"do": "stored", "directory": DIR}        every object that a Swift's device holds, from its files
  {"do": "subvolumes", "directory": DIR}    every subvolume below a mount point, with what identifies it
  {"do": "digest", "directory": DIR}        one hash of all that a send stream carries of a tree
  {"do": "compare", "a": HASH, "b": HASH}   what differs between two trees that were hashed before
  {"do": "make", "directory": DIR, "seed": N, "files": N, "bytes": N, "zoo": BOOL}
  {"do": "change", "directory": DIR, "seed": N}
"""

import fcntl
import hashlib
import json
import os
import pickle
import random
import struct
import sys
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tree

GET_SUBVOL_INFO = 0x81F8943C
# linux/btrfs.h, struct btrfs_ioctl_get_subvol_info_args: treeid, name, parent_id, dirid, generation, flags, uuid,
# parent_uuid, received_uuid, ctransid, otransid, stransid, rtransid, four times, reserved.
SUBVOL_INFO = struct.Struct("=Q256sQQQQ16s16s16sQQQQ" + "QI4x" * 4 + "64x")
SUBVOLUME_INODE = 256
READ_ONLY = 1

described = {}


def stored(directory):
    found = []
    objects = os.path.join(directory, "srv", "d1", "objects")
    for folder, _, names in os.walk(objects):
        # Of one object there may be several files; the newest counts, and a tombstone says that it is deleted.
        newest = max((name for name in names if name.endswith((".data", ".ts"))), default=None)
        if newest is None or newest.endswith(".ts"):
            continue
        described_object = look_at(os.path.join(folder, newest))
        if described_object is not None:
            found.append(described_object)
    return found


def look_at(file):
    try:
        metadata = pickle.loads(xattr(file), encoding="bytes")
    except FileNotFoundError:
        return None  # It was replaced while we looked.
    texts = {text(name): text(value) for name, value in metadata.items()}
    headers = {name.lower(): value for name, value in texts.items()}
    entry = {
        "name": texts["name"],
        "file": file,
        "bytes": os.path.getsize(file),
        "length": int(headers["content-length"]),
        "etag": headers["etag"],
        "metadata": {
            name.removeprefix("x-object-meta-"): value
            for name, value in headers.items()
            if name.startswith("x-object-meta-")
        },
        "segments": None,
    }
    if headers.get("x-static-large-object", "").lower() == "true":
        with open(file, encoding="utf-8") as manifest:
            entry["segments"] = [
                {"name": segment["name"], "bytes": segment["bytes"], "etag": segment["hash"]}
                for segment in json.load(manifest)
            ]
    return entry


def xattr(file):
    whole = b""
    for number in range(100):
        try:
            whole += os.getxattr(file, "user.swift.metadata%s" % (number or ""))
        except FileNotFoundError:
            raise
        except OSError:
            break
    return whole


def text(value):
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def subvolumes(directory):
    # What is known of a subvolume that was just made read-only may lie behind until the next commit.
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if tree.libc.syncfs(top) != 0:
            raise OSError("syncfs")
    finally:
        os.close(top)
    found = []
    pending = [directory]
    while pending:
        folder = pending.pop()
        for entry in os.scandir(folder):
            if not entry.is_dir(follow_symlinks=False):
                continue
            if entry.inode() == SUBVOLUME_INODE or os.lstat(entry.path).st_ino == SUBVOLUME_INODE:
                found.append(subvolume(directory, entry.path))
            else:
                pending.append(entry.path)
    return found


def subvolume(top, path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        raw = fcntl.ioctl(descriptor, GET_SUBVOL_INFO, bytes(SUBVOL_INFO.size))
    finally:
        os.close(descriptor)
    values = SUBVOL_INFO.unpack(raw)
    number, _, _, _, _, flags, own, parent, received, ctransid, otransid, stransid, rtransid = values[:13]
    return {
        "path": os.path.relpath(path, top),
        "id": number,
        "readOnly": bool(flags & READ_ONLY),
        "uuid": identifier(own),
        "parentUuid": identifier(parent),
        "receivedUuid": identifier(received),
        "ctransid": ctransid,
        "otransid": otransid,
        "stransid": stransid,
        "rtransid": rtransid,
    }


def identifier(raw):
    return str(uuid.UUID(bytes=raw)) if any(raw) else None


def digest(directory):
    entries = {entry["path"]: entry for entry in tree.describe(os.path.abspath(os.fsencode(directory)))}
    hashed = hashlib.sha256("".join(json.dumps(entry) + "\n" for entry in entries.values()).encode()).hexdigest()
    described[hashed] = entries
    return hashed


def compare(a, b):
    left, right = described[a], described[b]
    different = []
    for path in {**left, **right}:
        first, second = left.get(path), right.get(path)
        if first == second:
            continue
        if first is None or second is None:
            different.append("%s: only in the %s" % (path or ".", "second" if first is None else "first"))
            continue
        facts = [fact for fact in {**first, **second} if first.get(fact) != second.get(fact)]
        different += ["%s: %s %s != %s" % (path or ".", fact, first.get(fact), second.get(fact)) for fact in facts]
    return different


def make(directory, seed, files, size, zoo):
    rng = random.Random(seed)
    directory = os.fsencode(directory)
    tree.make_files(directory, rng, files, size)
    if zoo:
        tree.make_zoo(directory + b"/zoo", rng)


def answer(request):
    what = request["do"]
    if what == "stored":
        return stored(request["directory"])
    if what == "subvolumes":
        return subvolumes(request["directory"])
    if what == "digest":
        return digest(request["directory"])
    if what == "compare":
        return compare(request["a"], request["b"])
    if what == "make":
        return make(request["directory"], request["seed"], request["files"], request["bytes"], request["zoo"])
    if what == "change":
        return tree.change(os.fsencode(request["directory"]), random.Random(request["seed"]))
    raise ValueError(what)


for line in sys.stdin:
    try:
        reply = {"ok": answer(json.loads(line))}
    except Exception as error:
        reply = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(reply), flush=True)
