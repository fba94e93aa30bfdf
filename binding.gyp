# The addon by node-gyp. No Node headers are needed or fetched: node-api-headers has those of Node-API, and
# native/nodedir/common.gypi stands in for a Node installation.
{
  "targets": [
    {
      "target_name": "btrfs",
      "sources": [
        "native/addon.cc",
        "native/crc32c.cc",
        "native/device_errors.cc",
        "native/glob.cc",
        "native/js_lock.cc",
        "native/js_md5.cc",
        "native/js_pipe.cc",
        "native/js_send_stream.cc",
        "native/js_subvolume.cc",
        "native/js_tree.cc",
        "native/js_values.cc",
        "native/lock.cc",
        "native/md5.cc",
        "native/page_tree.cc",
        "native/pipe.cc",
        "native/send_commands.cc",
        "native/send_stream.cc",
        "native/subvolume.cc",
        "native/subvolume_change.cc",
        "native/subvolume_failure.cc",
        "native/tree.cc",
        "native/tree_replay.cc",
        "native/tree_walk.cc"
      ],
      "include_dirs": [
        "<!(node -p \"require('node-addon-api').include_dir\")",
        "<!(node -p \"require('node-api-headers').include_dir\")"
      ],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS",
        "ADDON_SOURCES=<!(node native/fingerprint.mjs)"
      ],
      "cflags": ["-fPIC", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "libraries": ["-lbtrfsutil", "-pthread"]
    }
  ]
}
