// Command agent is loadtest's hidden command of that name as a program of its own, for the container in which attacks are
// made: what the rest of loadtest is linked with takes longer to initialise than a short attack may wait for. It takes one job
// after the other, since to start a program in a container takes longer than that, too.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"lab/loadtest/internal/agent"
	"lab/loadtest/internal/reference"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(agent.MainOfEach(ctx, os.Stdin, os.Stdout, os.Stderr, reference.CompareJSON))
}
