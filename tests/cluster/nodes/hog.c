/* Takes so many mebibytes of memory and keeps all of it in use until it is told to end: hog MEBIBYTES FLOOR
 * It goes on only while more than FLOOR mebibytes are available, as a program does that grows slowly: whoever gives way has the time. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }

static long available(void) {
    long kibibytes = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file) && sscanf(line, "MemAvailable: %ld", &kibibytes) != 1) {}
    fclose(file);
    return kibibytes / 1024;
}

int main(int count, char **words) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    if (count != 3) return 2;
    long wanted = atol(words[1]), floor = atol(words[2]);
    for (long taken = 0; taken < wanted;) {
        /* What it took last must show before it takes more: nodes write their figures four times a second. */
        usleep(300 * 1000);
        for (long left = available() - floor; left > 0 && taken < wanted; left--, taken++) {
            char *piece = malloc(1 << 20);
            if (!piece) return 1;
            memset(piece, 1, 1 << 20);
        }
    }
    puts("all of it is taken");
    fflush(stdout);
    for (;;) pause();
}
