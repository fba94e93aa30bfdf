/* Runs a program and writes what it cost to a file: exit status (128 + signal), CPU seconds of the process itself, CPU
 * seconds of the children it waited for, and peak memory in KiB (of the largest of them all). Exits with its status.
 *
 *   measure FILE PROGRAM ARGUMENT... */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What /proc tells of a process that has ended and was not waited for yet: itself and its children apart. */
static int read_cpu(pid_t pid, double *self, double *children) {
  unsigned long user, system;
  long children_user, children_system;
  char path[64], stat[1024] = "";
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  if (!fgets(stat, sizeof stat, file)) stat[0] = 0;
  fclose(file);
  /* Its name, in parentheses, may hold anything; the fields are counted from behind it. */
  const char *fields = strrchr(stat, ')');
  if (!fields || sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &user, &system,
                        &children_user, &children_system) != 4) return 0;
  const double ticks = sysconf(_SC_CLK_TCK);
  *self = (user + system) / ticks;
  *children = (children_user + children_system) / ticks;
  return 1;
}

int main(int argc, char **argv) {
  double self = 0, children = 0;
  struct rusage usage;
  siginfo_t info;
  int status;
  if (argc < 3) return 2;
  const pid_t pid = fork();
  if (pid == 0) {
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    _exit(127);
  }
  if (pid < 0 || waitid(P_PID, pid, &info, WEXITED | WNOWAIT) || !read_cpu(pid, &self, &children)) return 126;
  if (wait4(pid, &status, 0, &usage) != pid) return 126;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  FILE *file = fopen(argv[1], "w");
  if (!file) return 126;
  fprintf(file, "%d %.2f %.2f %ld\n", code, self, children, usage.ru_maxrss);
  return fclose(file) ? 126 : code;
}
