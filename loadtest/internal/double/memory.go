package double

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// holder is the environment variable that says that this process is one of the others of a double (Behaviour.Processes): it
// answers nothing and holds memory, its own or that which is open as descriptor 3, until its standard input ends.
const holder = Variable + "_HOLDER"

// memory is what the processes of a double hold.
type memory struct {
	bytes  []byte
	file   *os.File // of all of them, where they share it
	others []*other
}

type other struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// holdMemory maps a double's memory in this process, and in others if there are to be any; it returns when all of them hold it.
func holdMemory(ctx context.Context, b Behaviour) (held *memory, err error) {
	m := &memory{}
	defer func() {
		if err != nil {
			m.free()
		}
	}()
	if b.Shared {
		fd, err := unix.MemfdCreate("double", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
		m.file = os.NewFile(uintptr(fd), "memory")
		if err := m.file.Truncate(int64(b.MemoryMiB) << 20); err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
	}
	if err := m.hold(b.MemoryMiB); err != nil {
		return nil, err
	}
	for range b.Processes - 1 {
		if err := m.another(ctx, b); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// hold maps what is to be held, and touches each page, since one that nobody touched is not there.
func (m *memory) hold(mib int) error {
	if mib == 0 {
		return nil
	}
	fd, flags := -1, unix.MAP_PRIVATE|unix.MAP_ANON
	if m.file != nil {
		fd, flags = int(m.file.Fd()), unix.MAP_SHARED
	}
	bytes, err := unix.Mmap(fd, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	for i := 0; i < len(bytes); i += os.Getpagesize() {
		bytes[i] = 1
	}
	m.bytes = bytes
	return nil
}

// another starts this program as one that only holds, and waits until it does.
func (m *memory) another(ctx context.Context, b Behaviour) error {
	behaviour, err := json.Marshal(Behaviour{MemoryMiB: b.MemoryMiB, Shared: b.Shared})
	if err != nil {
		return fmt.Errorf("another process: %w", err)
	}
	cmd := exec.CommandContext(ctx, os.Args[0], os.Args[1:]...)
	cmd.Env, cmd.Stderr = append(os.Environ(), Variable+"="+string(behaviour), holder+"=1"), os.Stderr
	if m.file != nil {
		cmd.ExtraFiles = []*os.File{m.file}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("another process: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("another process: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("another process: %w", err)
	}
	m.others = append(m.others, &other{cmd, stdin})
	if _, err := bufio.NewReader(stdout).ReadByte(); err != nil {
		return fmt.Errorf("another process: it ended before it held its memory: %w", err)
	}
	return nil
}

// free ends the other processes and gives the memory back.
func (m *memory) free() {
	for _, o := range m.others {
		_ = o.stdin.Close() // which ends it
		_ = o.cmd.Wait()
	}
	if m.bytes != nil {
		_ = unix.Munmap(m.bytes)
	}
	if m.file != nil {
		_ = m.file.Close()
	}
}

// holdAlone is such another process, until the first one has ended or ends it.
func holdAlone(ctx context.Context, b Behaviour, stdin io.Reader, stdout io.Writer) error {
	m := &memory{}
	if b.Shared {
		m.file = os.NewFile(3, "memory")
	}
	defer m.free()
	if err := m.hold(b.MemoryMiB); err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, "\n"); err != nil {
		return fmt.Errorf("say that it holds its memory: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stdin)
		ended <- err
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}
