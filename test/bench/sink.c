/* An S3 store that keeps nothing: it answers as one does, remembers sizes, MD5s and metadata, and lets the kernel throw bodies
 * away unread. What an uploader needs on loopback against it is what the uploader itself costs. Plain HTTP, any keys; a
 * bucket is there as soon as it is named. Bodies need a Content-Length; their MD5 is taken to be the Content-MD5 that
 * came with them, and made up where there was none.
 *
 *   sink        prints the port it listens on, on 127.0.0.1; ends when its standard input does */
#include <arpa/inet.h>
#include <math.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { MAX_PARTS = 10000, HEAD_BYTES = 65536, DISCARD_BYTES = 1 << 20, METADATA_BYTES = 8192 };

struct part {
  long long size;
  unsigned char md5[16];
};

/* An object, or an upload that will be one. */
struct stored {
  struct stored *next;
  char *path; /* /bucket/key, as it was sent */
  char etag[48];
  char metadata[METADATA_BYTES]; /* header lines */
  long long size;
  int id; /* of the upload; 0 = an object */
  struct part *parts;
};

struct request {
  char *method, *path, *query;
  const char *headers; /* lines, each ended by \r\n */
  long long length;
};

static struct stored *all;
static int last_id;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- MD5, for the ETag of an object in parts: 16 bytes a part, so it need not be fast */

static void md5_block(uint32_t state[4], const unsigned char *block) {
  static const int turns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
  uint32_t words[16], a = state[0], b = state[1], c = state[2], d = state[3];
  memcpy(words, block, 64);
  for (int i = 0; i < 64; i++) {
    uint32_t mixed;
    int word;
    if (i < 16) mixed = (b & c) | (~b & d), word = i;
    else if (i < 32) mixed = (d & b) | (~d & c), word = (5 * i + 1) % 16;
    else if (i < 48) mixed = b ^ c ^ d, word = (3 * i + 5) % 16;
    else mixed = c ^ (b | ~d), word = 7 * i % 16;
    const uint32_t sum = a + mixed + words[word] + (uint32_t)(fabs(sin(i + 1)) * 4294967296.0);
    const int turn = turns[i / 16][i % 4];
    a = d, d = c, c = b;
    b += sum << turn | sum >> (32 - turn);
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
}

static void md5(const unsigned char *bytes, size_t length, unsigned char digest[16]) {
  uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  unsigned char end[128] = {0};
  const size_t rest = length % 64, end_length = rest < 56 ? 64 : 128;
  const uint64_t bits = (uint64_t)length * 8;
  for (size_t at = 0; at + 64 <= length; at += 64) md5_block(state, bytes + at);
  memcpy(end, bytes + length - rest, rest);
  end[rest] = 0x80;
  memcpy(end + end_length - 8, &bits, 8);
  for (size_t at = 0; at < end_length; at += 64) md5_block(state, end + at);
  memcpy(digest, state, 16);
}

static void to_hex(const unsigned char digest[16], char text[33]) {
  for (int i = 0; i < 16; i++) sprintf(text + 2 * i, "%02x", digest[i]);
}

/* --- requests */

/* The value of a header, up to the end of its line; NULL when there is none. */
static const char *header(const struct request *request, const char *name) {
  const size_t length = strlen(name);
  for (const char *line = request->headers; *line; line = strstr(line, "\r\n") + 2)
    if (!strncasecmp(line, name, length) && line[length] == ':') {
      const char *value = line + length + 1;
      return value + strspn(value, " ");
    }
  return NULL;
}

/* The value of ?name=; NULL when it is not in the query, "" when it has no value. */
static const char *parameter(const struct request *request, const char *name) {
  const size_t length = strlen(name);
  for (const char *at = request->query; at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL)
    if (!strncmp(at, name, length) && strchr("=&", at[length])) return at + length + (at[length] == '=');
  return NULL;
}

/* Keeps the headers that make up an object's metadata. */
static void read_metadata(const struct request *request, char metadata[METADATA_BYTES]) {
  size_t kept = 0;
  for (const char *line = request->headers, *next; *line; line = next) {
    next = strstr(line, "\r\n") + 2;
    const size_t length = next - line;
    if (strncasecmp(line, "x-amz-meta-", 11) || kept + length >= METADATA_BYTES) continue;
    memcpy(metadata + kept, line, length);
    kept += length;
  }
  metadata[kept] = 0;
}

static void read_md5(const struct request *request, unsigned char digest[16]) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *base64 = header(request, "content-md5");
  memset(digest, 0, 16);
  for (int i = 0; base64 && i < 16 * 8; i++) {
    const char *digit = strchr(digits, base64[i / 6]);
    if (digit && (digit - digits) >> (5 - i % 6) & 1) digest[i / 8] |= 128 >> i % 8;
  }
}

static void respond(int socket, const char *status, const char *headers, const char *format, ...) {
  char body[1024], answer[2048];
  va_list values;
  va_start(values, format);
  const int length = vsnprintf(body, sizeof body, format, values);
  va_end(values);
  const int size = snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s", status, length,
                            headers, body);
  send(socket, answer, size, MSG_NOSIGNAL); /* should it fail, the next read does too */
}

static void respond_etag(int socket, const char *etag) {
  char headers[96];
  snprintf(headers, sizeof headers, "ETag: \"%s\"\r\n", etag);
  respond(socket, "200 OK", headers, "");
}

/* The object, or with an id the upload. */
static struct stored *find(const char *path, int id) {
  struct stored *found = all;
  while (found && (found->id != id || (!id && strcmp(found->path, path)))) found = found->next;
  return found;
}

static struct stored *add(const char *path, int id) {
  struct stored *added = calloc(1, sizeof *added);
  added->path = strdup(path);
  added->id = id;
  added->parts = id ? calloc(MAX_PARTS + 1, sizeof *added->parts) : NULL;
  added->next = all;
  return all = added;
}

/* --- what can be asked */

static void put(int socket, const struct request *request) {
  const char *decoded = header(request, "x-amz-decoded-content-length");
  const int id = parameter(request, "uploadId") ? atoi(parameter(request, "uploadId")) : 0;
  const int number = id && parameter(request, "partNumber") ? atoi(parameter(request, "partNumber")) : 0;
  struct stored *target = find(request->path, id);
  struct part part = {decoded ? atoll(decoded) : request->length, {0}};
  char etag[33];
  if (id && (!target || number < 1 || number > MAX_PARTS)) return respond(socket, "404 Not Found", "", "");
  read_md5(request, part.md5);
  to_hex(part.md5, etag);
  if (id) {
    target->parts[number] = part;
  } else {
    if (!target) target = add(request->path, 0);
    target->size = part.size;
    strcpy(target->etag, etag);
    read_metadata(request, target->metadata);
  }
  respond_etag(socket, etag);
}

static void begin(int socket, const struct request *request) {
  struct stored *upload = add(request->path, ++last_id);
  read_metadata(request, upload->metadata);
  respond(socket, "200 OK", "Content-Type: application/xml\r\n",
          "<InitiateMultipartUploadResult><UploadId>%d</UploadId></InitiateMultipartUploadResult>", upload->id);
}

/* The upload becomes an object of all of its parts. */
static void complete(int socket, const struct request *request) {
  static unsigned char md5s[MAX_PARTS * 16];
  struct stored *upload = find(request->path, atoi(parameter(request, "uploadId")));
  unsigned char digest[16];
  int count = 0;
  if (!upload) return respond(socket, "404 Not Found", "", "");
  for (; count < MAX_PARTS && upload->parts[count + 1].size; count++) {
    memcpy(md5s + 16 * count, upload->parts[count + 1].md5, 16);
    upload->size += upload->parts[count + 1].size;
  }
  md5(md5s, 16 * (size_t)count, digest);
  to_hex(digest, upload->etag);
  sprintf(upload->etag + 32, "-%d", count);
  upload->id = 0;
  free(upload->parts);
  upload->parts = NULL;
  respond(socket, "200 OK", "Content-Type: application/xml\r\n",
          "<CompleteMultipartUploadResult><ETag>\"%s\"</ETag></CompleteMultipartUploadResult>", upload->etag);
}

static void head(int socket, const struct request *request, int is_bucket) {
  struct stored *object = is_bucket ? NULL : find(request->path, 0);
  char answer[256 + METADATA_BYTES];
  if (!is_bucket && !object) return respond(socket, "404 Not Found", "", "");
  const int size = sprintf(answer,
                           "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\nETag: \"%s\"\r\n"
                           "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n%s\r\n",
                           object ? object->size : 0, object ? object->etag : "", object ? object->metadata : "");
  send(socket, answer, size, MSG_NOSIGNAL);
}

/* A proof stands beside an archive and is no part of it. */
static int is_proof(const char *path) {
  const size_t length = strlen(path);
  return length > 6 && !strcmp(path + length - 6, "/proof");
}

/* How much the bucket holds of archives stands in a header; that it is empty, in the body. */
static void list(int socket, const struct request *request) {
  const int is_uploads = parameter(request, "uploads") != NULL;
  const char *result = is_uploads ? "ListMultipartUploadsResult" : "ListBucketResult";
  const size_t length = strcspn(request->path + 1, "/") + 1;
  long long bytes = 0;
  char headers[128];
  for (struct stored *each = all; each; each = each->next)
    if (!each->id && !is_proof(each->path) && !strncmp(each->path, request->path, length) &&
        each->path[length] == '/')
      bytes += each->size;
  snprintf(headers, sizeof headers, "Content-Type: application/xml\r\nX-Container-Bytes-Used: %lld\r\n", bytes);
  respond(socket, "200 OK", headers, "<%s><Name>%.*s</Name><IsTruncated>false</IsTruncated></%s>", result,
          (int)length - 1, request->path + 1, result);
}

static void answer(int socket, const struct request *request) {
  const char *key = strchr(request->path + 1, '/');
  const int is_bucket = !key || !key[1];
  if (!strcmp(request->path, "/info")) respond(socket, "404 Not Found", "", "");
  else if (!strcmp(request->method, "HEAD")) head(socket, request, is_bucket);
  else if (!strcmp(request->method, "DELETE")) respond(socket, "204 No Content", "", "");
  else if (is_bucket && !strcmp(request->method, "PUT")) respond(socket, "200 OK", "", "");
  else if (is_bucket) list(socket, request);
  else if (!strcmp(request->method, "PUT")) put(socket, request);
  else if (parameter(request, "uploadId")) complete(socket, request);
  else if (parameter(request, "uploads")) begin(socket, request);
  else respond(socket, "404 Not Found", "", "");
}

/* --- connections */

/* False at the end of the connection, and of what is no request. Bytes behind the head stay in the socket. */
static int read_head(int socket, char *buffer, struct request *request) {
  size_t length = 0;
  char *end = NULL;
  while (!end) {
    const ssize_t seen = recv(socket, buffer + length, HEAD_BYTES - 1 - length, MSG_PEEK);
    if (seen <= 0) return 0;
    buffer[length + seen] = 0;
    end = strstr(buffer, "\r\n\r\n");
    const size_t take = end ? (size_t)(end + 4 - buffer) - length : (size_t)seen;
    if (recv(socket, buffer + length, take, 0) != (ssize_t)take) return 0;
    length += take;
  }
  end[2] = 0;
  request->headers = strstr(buffer, "\r\n") + 2;
  request->method = strtok_r(buffer, " ", &end);
  request->path = strtok_r(NULL, " ", &end);
  if (!request->path) return 0;
  request->query = strchr(request->path, '?');
  if (request->query) *request->query++ = 0;
  request->length = header(request, "content-length") ? atoll(header(request, "content-length")) : 0;
  return 1;
}

/* With MSG_TRUNC the kernel gives what has come back without copying it (tcp(7)). */
static int discard(int socket, long long length, char *buffer) {
  while (length > 0) {
    const ssize_t taken = recv(socket, buffer, length < DISCARD_BYTES ? length : DISCARD_BYTES, MSG_TRUNC);
    if (taken <= 0) return 0;
    length -= taken;
  }
  return 1;
}

static void *serve(void *argument) {
  const int socket = (int)(intptr_t)argument, on = 1;
  char *head_buffer = malloc(HEAD_BYTES), *body_buffer = malloc(DISCARD_BYTES);
  struct request request;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  while (read_head(socket, head_buffer, &request)) {
    if (header(&request, "expect")) send(socket, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
    if (!discard(socket, request.length, body_buffer)) break;
    pthread_mutex_lock(&lock);
    answer(socket, &request);
    pthread_mutex_unlock(&lock);
  }
  free(head_buffer);
  free(body_buffer);
  close(socket);
  return NULL;
}

static void *accept_all(void *argument) {
  for (;;) {
    pthread_t thread;
    const int socket = accept((int)(intptr_t)argument, NULL, NULL);
    if (socket >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)socket)) pthread_detach(thread);
  }
  return NULL;
}

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  pthread_t thread;
  char byte;
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 64)) return 1;
  if (getsockname(listener, (struct sockaddr *)&address, &size)) return 1;
  if (pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listener)) return 1;
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  while (read(STDIN_FILENO, &byte, 1) > 0) continue;
  return 0;
}
