// Command cmd runs derive without the rest of loadtest: go run ./internal/derive/cmd --contract ../contract ...
package main

import (
	"context"
	"os"

	"lab/loadtest/internal/derive"
)

func main() { os.Exit(derive.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }
