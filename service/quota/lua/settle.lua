-- Charges what a reservation used, in the windows it was made in. Repeated, it does nothing.
-- ARGV: reservation as JSON, tokens, requests (0 or 1), memory us.
-- Returns: time us, how many expired are untold.

local settled = cjson.decode(ARGV[1])
local used, requests = tonumber(ARGV[2]), tonumber(ARGV[3])
local memory = tonumber(ARGV[4])
local id = settled.id
local now = clock()

-- Nothing is known of it: granted elsewhere, or lost here.
local function charge(reservation)
  count(reservation, used, 0, false)
  keep_windows(reservation.windows)
  for _, scope in ipairs(reservation.scopes) do
    add_to_rates(scope, requests, used, now)
  end
end

-- Puts what was used in the place of the estimate. One that expired has no marks, and was charged.
local function correct(reservation, marks, open)
  local estimate = reservation.prompt + reservation.output
  local more = used - estimate
  if open then
    count(reservation, used, -estimate, true)
    free(id, reservation)
  else
    count(reservation, more, 0, true)
  end
  for i, scope in ipairs(reservation.scopes) do
    local rates = marks[i] and load_rates(scope, now)
    if rates then
      drain_rates(rates, now)
      settle_rates(scope, rates, marks[i], requests, used, estimate)
    elseif not marks[i] then
      add_to_rates(scope, 0, math.max(more, 0), now)
    end
  end
end

local record = redis.call('HGET', RECORDS, id)
local done = not record and redis.call('ZSCORE', FINISHED, id)
if record then
  local reservation, marks = parse(record)
  correct(reservation, marks, redis.call('ZSCORE', LEASES, id))
  redis.call('HDEL', RECORDS, id)
  redis.call('HDEL', UNTOLD, id) -- its own gateway lives, and tells
elseif not done then
  charge(settled)
end
if not done then
  redis.call('ZADD', FINISHED, int(now + memory), id)
  redis.call('EXPIRE', FINISHED, int(KEEP_TEAM_S))
end

return { now, expire(now, memory) }
