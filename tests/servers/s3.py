"""A small S3 client for the tests, on pyarrow: s3.py PORT ACCESS_KEY SECRET_KEY COMMAND …

  probe                  fails until the server can make a bucket and hold an object
  create-bucket BUCKET
  list BUCKET            names of the objects
  download BUCKET DIR    copies them
"""

import pathlib
import sys

from pyarrow import fs

port, access_key, secret_key, command, *arguments = sys.argv[1:]
s3 = fs.S3FileSystem(
    access_key=access_key,
    secret_key=secret_key,
    endpoint_override=f"127.0.0.1:{port}",
    scheme="http",
    region="us-east-1",
    allow_bucket_creation=True,
    request_timeout=10,
)


def objects(bucket):
    found = s3.get_file_info(fs.FileSelector(bucket, recursive=True))
    return sorted(info.path.removeprefix(bucket + "/") for info in found if info.type == fs.FileType.File)


if command == "probe":
    s3.create_dir("probe")
    with s3.open_output_stream("probe/object") as stream:
        stream.write(b"x" * 100)
elif command == "create-bucket":
    s3.create_dir(arguments[0])
elif command == "list":
    print("\n".join(objects(arguments[0])))
elif command == "download":
    bucket, directory = arguments
    for name in objects(bucket):
        path = pathlib.Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with s3.open_input_stream(f"{bucket}/{name}") as stream:
            path.write_bytes(stream.read())
else:
    sys.exit(f"unknown command: {command}")
