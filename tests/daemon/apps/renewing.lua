-- Kept-alive connections that their client ends by itself after some seconds: the first few requests of each
-- second ask for that, and with eight connections each has its turn soon.
local second, left = 0, 0
local kept, last

function init()
   kept = wrk.format()
   wrk.headers["Connection"] = "close"
   last = wrk.format()
end

function request()
   local now = os.time()
   if now ~= second then second, left = now, 4 end
   if left == 0 then return kept end
   left = left - 1
   return last
end
