// Command loadtest proves that servers in several languages answer the same, measures them, and says what the figures
// carry. One file per command; what they share is in lab.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"lab/loadtest/internal/engine"
)

// Exit statuses that scripts rely on.
const (
	exitOK          = 0
	exitNo          = 1 // the answer is no: not conformant, a regression
	exitCannot      = 2 // could not run
	exitInterrupted = 130
)

// streams are what a command reads and writes: results to Out, everything else to Err.
type streams struct {
	In       io.Reader
	Out, Err io.Writer
}

type command struct {
	name   string
	about  string
	hidden bool // of use to the tool itself or to its developers
	run    func(ctx context.Context, args []string, s streams) int
}

func commands() []command {
	return []command{
		{"compare", "prove the arms equal, measure them in random order, and print what they cost", false, compareMain},
		{"conformance", "prove that arms answer as the contract asks", false, conformanceMain},
		{"attack", "drive the lab's load generator at a target of your own", false, attackMain},
		{"serve", "run one contender with its database until interrupted", false, serveMain},
		{"report", "make page, pictures and README of a run anew, from its records", false, reportMain},
		{"publish", "copy a run's records to results/, with its README and pictures", false, publishMain},
		{"diff", "say what became of each arm between two runs, or of one between two revisions; status 1 where one got dearer beyond doubt", false, diffMain},
		{"trend", "follow each arm over the nights, and say at which one its CPU per request changed", false, trendMain},
		{"audit", "measure what is known beforehand, and say whether the lab finds it (takes an hour)", false, auditMain},
		{"doctor", "say what this machine can do, and what to do about what is missing", false, doctorMain},
		{"bench-servers", "measure every arm's CPU per request over the headline operations, beside its floor", false, benchMain},
		{"bench-agent", "measure the load generator against net/http's transport, vegeta's own attacker and wrk", false, benchAgentMain},
		{"bench-faults", "measure what the fault proxy adds to a round trip, and how exact its delays are", false, benchFaultsMain},
		{"null", "a server that answers everything at once with the same, until its standard input ends", true, nullMain},
		{"agent", "the load generator: a job on standard input, its result on standard output", true, agentMain},
		{"idle", "wait for SIGTERM: the container in which load generators are run", true, idleMain},
		{engine.NullCommand, "a server that answers at once: what the load generator is measured against", true, nullContenderMain},
		{"upstream", "the stub of the quote service", true, upstreamMain},
		{"fault-proxy", "the proxy that delays and breaks connections, with Toxiproxy's HTTP API", true, faultProxyMain},
		{"fault-probe", "round trips with and without the fault proxy: a job on standard input, its result on standard output", true, faultProbeMain},
		{"derive", "derive the expected answers of contract/operations from SQL", true, deriveMain},
		{"stub", "a server whose response times are known by arithmetic", true, stubMain},
		{"double", "a contender of known behaviour: what claims are made true and false with", true, doubleMain},
		{"simulate", "count what the rule of a verdict does where the truth is known, for docs/METHODOLOGY.md", true, simulateMain},
		{"database", "a seeded database until interrupted; its URLs on standard output", true, databaseMain},
	}
}

func main() {
	// A signal ends what runs, in order, unless the command has asked for patience; one more ends the program at once.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx := withInterrupts(context.Background(), signals, func() { signal.Stop(signals) })
	// Whoever read what is printed may have left (| head): without this the next line would end the program on the spot, and
	// what it has started would stay. Received and not ignored, since what is started would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

func run(ctx context.Context, args []string, s streams) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		w := s.Err
		code := exitCannot
		if len(args) > 0 {
			w, code = s.Out, exitOK
		}
		fmt.Fprint(w, "loadtest compares servers in several languages that serve the same API.\n\n")
		for _, c := range commands() {
			if !c.hidden {
				fmt.Fprintf(w, "  loadtest %-14s %s\n", c.name, c.about)
			}
		}
		fmt.Fprint(w, "\nloadtest COMMAND --help lists a command's flags.\nExit status: 0 fine, 1 the answer is no, 2 could not run, 130 interrupted.\n")
		return code
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], s)
		}
	}
	fmt.Fprintf(s.Err, "loadtest: no command %q; loadtest help lists them\n", args[0])
	return exitCannot
}

// newFlags makes a flag set that reports through parse.
func newFlags(name, usage string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.Init(name+"\x00"+usage, flag.ContinueOnError)
	return f
}

// parse reads flags; where it returns false, the command ends with the code.
func parse(f *flag.FlagSet, args []string, s streams) (code int, ok bool) {
	return parseWith(f, args, s, 0)
}

// parseWith is parse for a command that takes that many arguments beside its flags. Flags may come after them.
func parseWith(f *flag.FlagSet, args []string, s streams, wanted int) (code int, ok bool) {
	return parseBetween(f, args, s, wanted, wanted)
}

// parseBetween is parseWith for a command that takes from least to most arguments.
func parseBetween(f *flag.FlagSet, args []string, s streams, least, most int) (code int, ok bool) {
	name, usage, _ := strings.Cut(f.Name(), "\x00")
	var rest []string
	err := f.Parse(args)
	for err == nil && most > 0 && f.NArg() > 0 {
		rest = append(rest, f.Arg(0))
		err = f.Parse(f.Args()[1:])
	}
	if err == nil && most > 0 {
		err = f.Parse(append([]string{"--"}, rest...))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(s.Out, "usage: loadtest %s %s\n\n", name, usage)
		f.SetOutput(s.Out)
		f.VisitAll(func(x *flag.Flag) {
			value, text := flag.UnquoteUsage(x)
			head := "--" + x.Name
			if value != "" {
				head += " " + value
			}
			if x.DefValue != "" && x.DefValue != "false" && x.DefValue != "0" {
				text += " (default " + x.DefValue + ")"
			}
			fmt.Fprintf(s.Out, "  %-28s %s\n", head, text)
		})
		return exitOK, false
	case err != nil:
		fmt.Fprintf(s.Err, "loadtest %s: %v\n", name, err)
		return exitCannot, false
	case f.NArg() > most:
		fmt.Fprintf(s.Err, "loadtest %s: unexpected argument %q\n", name, f.Arg(most))
		return exitCannot, false
	case f.NArg() < least:
		fmt.Fprintf(s.Err, "loadtest %s: usage: loadtest %s %s\n", name, name, usage)
		return exitCannot, false
	}
	return exitOK, true
}

// fail prints an error and gives the exit status that it stands for.
func fail(ctx context.Context, s streams, command string, err error) int {
	if ctx.Err() != nil || errors.Is(err, errInterrupted) {
		fmt.Fprintf(s.Err, "loadtest %s: interrupted\n", command)
		return exitInterrupted
	}
	var busy *engine.BusyError
	if errors.As(err, &busy) {
		fmt.Fprintf(s.Err, "loadtest %s: %v; two at once would spoil each other\n", command, err)
		return exitCannot
	}
	fmt.Fprintf(s.Err, "loadtest %s: %v\n", command, err)
	return exitCannot
}
