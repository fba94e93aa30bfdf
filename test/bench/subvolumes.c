/* libbtrfsutil's own iteration over every subvolume with its info, as fast as C has it: what the addon is held against.
 * usage: subvolumes PATH ROUNDS; prints the number of subvolumes, then milliseconds of CPU per round. */
#include <btrfsutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static long iterate(const char *path) {
  struct btrfs_util_subvolume_iterator *iterator;
  struct btrfs_util_subvolume_info info;
  enum btrfs_util_error error;
  char *found;
  long count = 0;
  if (btrfs_util_create_subvolume_iterator(path, 5, 0, &iterator) != BTRFS_UTIL_OK) exit(1);
  while (!(error = btrfs_util_subvolume_iterator_next_info(iterator, &found, &info))) {
    count++;
    free(found);
  }
  btrfs_util_destroy_subvolume_iterator(iterator);
  if (error != BTRFS_UTIL_ERROR_STOP_ITERATION) exit(1);
  return count;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  printf("%ld", iterate(argv[1]));
  for (int round = atoi(argv[2]); round > 0; round--) {
    const double start = milliseconds();
    iterate(argv[1]);
    printf(" %.1f", milliseconds() - start);
  }
  printf("\n");
  return 0;
}
