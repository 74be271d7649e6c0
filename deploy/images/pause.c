/* The process that holds a pod's namespaces: it waits for a signal and reaps what is left to it. */
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static void finish(int signal) { (void)signal; _exit(0); }

static void reap(int signal)
{
	(void)signal;
	while (waitpid(-1, 0, WNOHANG) > 0)
		;
}

int main(void)
{
	signal(SIGINT, finish);
	signal(SIGTERM, finish);
	signal(SIGCHLD, reap);
	for (;;)
		pause();
}
