package conformance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// wirePatience is how long a server may take over a request that was written byte by byte.
const wirePatience = 30 * time.Second

// exchange opens a connection, writes the parts with a short pause between them and reads answers until the server
// closes, or until it has read as many as were wanted. closed says that the server closed before it had answered so many.
func exchange(ctx context.Context, target string, wanted int, method string, halfClose bool, parts ...[]byte) (answers []answer, closed bool, err error) {
	conn, err := dial(ctx, target)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i, part := range parts {
			if i > 0 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
			// A server that has read enough may close: the answer tells, not the write.
			if _, err := conn.Write(part); err != nil {
				return
			}
		}
		if halfClose {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
		}
	}()
	defer func() { conn.Close(); <-written }()
	reader := bufio.NewReader(conn)
	for len(answers) < wanted {
		a, err := readAnswer(reader, method)
		switch {
		case err == nil && a.status == http.StatusContinue:
		case err == nil:
			answers = append(answers, a)
		case wasClosed(err):
			return answers, true, nil
		default:
			return answers, false, err
		}
	}
	return answers, false, nil
}

func dial(ctx context.Context, target string) (net.Conn, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp4", u.Host)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(wirePatience)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// wasClosed tells a connection that the server closed from one that it let hang.
func wasClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func readAnswer(reader *bufio.Reader, method string) (answer, error) {
	response, err := http.ReadResponse(reader, &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// wireRequest is an HTTP request as it goes over the wire. Empty fields have the value of an ordinary POST.
type wireRequest struct {
	method, target string
	// headers replace those of an ordinary request of the same name; "-" leaves one out.
	headers []string // name, value, name, value …
	body    []byte
	chunked bool
	version string
	// keep leaves the connection open after the answer.
	keep bool
}

func (r wireRequest) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", or(r.method, http.MethodPost), or(r.target, "/graphql"), or(r.version, "HTTP/1.1"))
	headers := [][2]string{{"Host", "127.0.0.1"}, {"Content-Type", plainJSON}, {"Accept", graphqlResponse}}
	if r.body != nil && !r.chunked {
		headers = append(headers, [2]string{"Content-Length", strconv.Itoa(len(r.body))})
	}
	if r.chunked {
		headers = append(headers, [2]string{"Transfer-Encoding", "chunked"})
	}
	if !r.keep {
		headers = append(headers, [2]string{"Connection", "close"})
	}
	for i := 0; i+1 < len(r.headers); i += 2 {
		given := [2]string{r.headers[i], r.headers[i+1]}
		replaced := false
		for j := range headers {
			if strings.EqualFold(headers[j][0], given[0]) {
				headers[j], replaced = given, true
			}
		}
		if !replaced {
			headers = append(headers, given)
		}
	}
	for _, h := range headers {
		if h[1] != "-" {
			fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
		}
	}
	b.WriteString("\r\n")
	if !r.chunked {
		b.Write(r.body)
		return b.Bytes()
	}
	for rest := r.body; len(rest) > 0; {
		n := min(len(rest), 16<<10)
		fmt.Fprintf(&b, "%x\r\n", n)
		b.Write(rest[:n])
		b.WriteString("\r\n")
		rest = rest[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
