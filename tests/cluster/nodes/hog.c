/* Takes so many mebibytes of memory, keeps all of it in use, and ends when told to: hog MEBIBYTES */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }

int main(int count, char **words) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    long mebibytes = count == 2 ? atol(words[1]) : 0;
    if (mebibytes <= 0) return 2;
    for (long i = 0; i < mebibytes; i++) {
        char *taken = malloc(1 << 20);
        if (!taken) return 1;
        memset(taken, 1, 1 << 20);
        usleep(500);
    }
    for (;;) pause();
}
