package conformance

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"

	"lab/loadtest/internal/engine"
)

// cable is a TCP connection to a database that can be cut and joined again at the same address.
type cable struct {
	// url is the database's address through the cable.
	url     string
	address string
	target  string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
}

// newCable lays one that contenders of the engine can reach.
func newCable(ctx context.Context, e engine.Engine, databaseURL string) (*cable, error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("lay a cable: %w", err)
	}
	listen, dial := e.Loopback()
	c := &cable{target: u.Host, address: net.JoinHostPort(listen, "0"), conns: map[net.Conn]struct{}{}}
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	c.address = c.listener.Addr().String()
	_, port, err := net.SplitHostPort(c.address)
	if err != nil {
		return nil, fmt.Errorf("lay a cable: %w", err)
	}
	u.Host = net.JoinHostPort(dial, port)
	c.url = u.String()
	return c, nil
}

// join accepts connections.
func (c *cable) join(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", c.address)
	if err != nil {
		return fmt.Errorf("lay a cable: %w", err)
	}
	c.mu.Lock()
	c.listener = listener
	c.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.carry(listener, conn)
		}
	}()
	return nil
}

func (c *cable) carry(listener net.Listener, from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp4", c.target)
	if err != nil {
		return
	}
	defer to.Close()
	c.mu.Lock()
	if c.listener != listener { // cut meanwhile
		c.mu.Unlock()
		return
	}
	c.conns[from], c.conns[to] = struct{}{}, struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.conns, from)
		delete(c.conns, to)
		c.mu.Unlock()
	}()
	var wait sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		wait.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			way[1].Close()
		})
	}
	wait.Wait()
}

// cut refuses new connections and ends those there are.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener != nil {
		c.listener.Close()
		c.listener = nil
	}
	for conn := range c.conns {
		conn.Close()
	}
}
