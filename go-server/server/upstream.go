package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// upstreamTimeout bounds a call of the price service; what is left of the request's time may bound it further.
const upstreamTimeout = time.Second

// Upstream is the outside service that quotes prices.
type Upstream struct {
	baseURL string
	client  *http.Client
}

func newUpstream(c Settings) *Upstream {
	return &Upstream{baseURL: c.UpstreamURL, client: &http.Client{
		Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 90 * time.Second},
		// A redirect is no price.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// quote asks for the price of an item for a number of guests. Whatever goes wrong there is UPSTREAM_FAILED.
func (u *Upstream) quote(ctx context.Context, itemID string, guests int32) (totalCents int32, currency string, err error) {
	if u.baseURL == "" {
		return 0, "", fmt.Errorf("no UPSTREAM_URL: %w", errUpstream)
	}
	call, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	query := url.Values{"itemId": {itemID}, "guests": {strconv.Itoa(int(guests))}}
	request, err := http.NewRequestWithContext(call, http.MethodGet, u.baseURL+"/quote?"+query.Encode(), nil)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errUpstream, err)
	}
	waiting := requestOf(ctx)
	waiting.callBegins()
	defer waiting.callEnds()
	response, err := u.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return 0, "", ctx.Err()
		}
		return 0, "", fmt.Errorf("%w: %w", errUpstream, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil || response.StatusCode != http.StatusOK {
		if ctx.Err() != nil {
			return 0, "", ctx.Err()
		}
		return 0, "", fmt.Errorf("status %d: %w", response.StatusCode, errUpstream)
	}
	var price struct {
		TotalCents *int64  `json:"totalCents"`
		Currency   *string `json:"currency"`
	}
	if err := json.Unmarshal(body, &price); err != nil || price.TotalCents == nil || price.Currency == nil ||
		*price.TotalCents < math.MinInt32 || *price.TotalCents > math.MaxInt32 {
		return 0, "", fmt.Errorf("not a price: %w", errUpstream)
	}
	return int32(*price.TotalCents), *price.Currency, nil
}
