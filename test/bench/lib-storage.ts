// lib-storage as its documentation has it, with the SDK's defaults: what all that sync does around it is held against.
//
//   node lib-storage.js CONTAINER PART_BYTES PARTS_IN_FLIGHT <STREAM

import { S3Client } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const [Bucket = "", partBytes, partsInFlight] = process.argv.slice(2);

await new Upload({
  // Where trailing checksums are refused (Swift before 2.35) not even the defaults work.
  client: new S3Client({ forcePathStyle: true, requestChecksumCalculation: "WHEN_REQUIRED" }),
  params: { Bucket, Key: "stream", Body: process.stdin },
  partSize: Number(partBytes),
  queueSize: Number(partsInFlight),
}).done();
