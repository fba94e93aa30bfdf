"""Uploads as the Python tool does: one call of SwiftService.upload for each file, static large objects, no retries.

  python-tool.py CONTAINER SEGMENT_BYTES FILE NAME [FILE NAME...]

The tool's segments have 1 GiB. The environment says where: ST_AUTH, ST_USER, ST_KEY.
"""

import sys

from swiftclient.service import SwiftService, SwiftUploadObject


def main(container, segment_bytes, *files):
    options = {"use_slo": True, "segment_size": segment_bytes, "retries": 0}
    with SwiftService(options=options) as swift:
        for path, name in zip(files[::2], files[1::2]):
            swift.stat(container)
            for result in swift.upload(container, [SwiftUploadObject(path, object_name=name)]):
                if not result["success"]:
                    sys.exit(f"{name}: {result}")


if __name__ == "__main__":
    main(*sys.argv[1:])
