-- Shared by the sweeps' scripts. Siblings of `sweep:{name}`, the claim of the current period:
-- `:running`, the run id of whoever is at it, for the time of a lease; `:status`, a hash.
-- Instants in ms by this server's clock.
local function redis_now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function number_text(number)
  return string.format('%.0f', number)
end

local function keep_status(base, keep_ms)
  redis.call('PEXPIRE', base .. ':status', keep_ms)
end
